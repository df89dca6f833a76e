"""Text to token ids and back, by a checkpoint's `tokenizer.json`.

User text never becomes a special token: `encode` takes `<|fim_prefix|>` in a source file as the
plain characters it is. Special ids are placed by the prompt builders alone, from `special`. Those
are the added tokens that a file flags as special, and those that look like marks: Qwen's files leave
the flag out for `<|fim_middle|>` and others, and the library would find them in any text.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import xxhash
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from qcoder.model.errors import CheckpointError
from qcoder.model.fast_tokens import fast_encode
from qcoder.model.json_file import id_list, read_json
from qcoder.model.line_ends import LineEnds

MAX_COUNTS = 200_000
"""Texts whose number of tokens is remembered: some 25 MB."""

STOP_NAMES = (
    "<|endoftext|>",
    "<|im_end|>",
    "<|im_start|>",
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<|fim_middle|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
)
"""Qwen's stop list for fill-in-the-middle."""


MARK = re.compile(r"<[^\s<>]+>")
"""Added tokens that are no text, whatever their flag says; others are runs of spaces and the like."""

CONTROL = re.compile(r"<\|.*\|>")
"""Added tokens without text of their own; others, like `<tool_call>`, are part of an answer."""


class Tokenizer:
    """A byte-level BPE tokenizer; immutable after loading."""

    def __init__(self, backend: Backend, data: bytes, eos_ids: Collection[int] = ()) -> None:
        added = backend.get_added_tokens_decoder()
        unflagged = {token.content for token in added.values() if not token.special}
        marks = sorted(filter(MARK.fullmatch, unflagged))
        # Known contents keep their ids; this sets the flag alone.
        backend.add_special_tokens([AddedToken(m, special=True, normalized=False) for m in marks])
        backend.encode_special_tokens = True
        self._backend = backend
        self.hash = hashlib.sha256(data).hexdigest()
        self.vocab_size: int = backend.get_vocab_size(with_added_tokens=True)
        self.special: Mapping[str, int] = {
            t.content: i for i, t in added.items() if t.special or t.content in marks
        }
        stops = {self.special[n] for n in STOP_NAMES if n in self.special}
        self.eos_ids: frozenset[int] = frozenset(stops | set(eos_ids))
        spoken = {name for name in unflagged if not CONTROL.fullmatch(name)}
        self._bytes = byte_table(backend, self.vocab_size, spoken)
        # Added tokens that stay in text are the library's own business.
        plain = len(self.special) == len(added)
        fast = fast_encode(data, backend, self._bytes) if plain else None
        self.is_fast = fast is not None
        self._encode = fast or self._encode_by_library
        self._counts: dict[bytes, int] = {}

    @staticmethod
    def load(folder: Path) -> Tokenizer:
        """Read `tokenizer.json`, and the end tokens from the configs; raises `CheckpointError`."""
        path = folder / "tokenizer.json"
        try:
            data = path.read_bytes()
            backend = Backend.from_buffer(data)
        except FileNotFoundError:
            raise CheckpointError(f"{path}: file is missing; download it again") from None
        except Exception as error:  # the tokenizers library raises bare Exception
            raise CheckpointError(f"{path}: cannot be read ({error}); download it again") from None
        return Tokenizer(backend, data, configured_eos(folder))

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text."""
        # Lone surrogates reach us from editors; the tokenizer takes valid Unicode only.
        return self._encode(text.encode("utf-8", "replace").decode("utf-8"))

    def _encode_by_library(self, text: str) -> list[int]:
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    def count(self, text: str) -> int:
        """Number of tokens of plain text; remembered by the text's hash."""
        key = xxhash.xxh3_128_digest(text.encode("utf-8", "replace"))
        known = self._counts.get(key)
        if known is None:
            if len(self._counts) >= MAX_COUNTS:
                self._counts.clear()
            known = self._counts[key] = len(self.encode(text))
        return known

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids; special tokens give nothing, broken UTF-8 gives U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        """Bytes of one token; empty for special tokens and for ids that no token has."""
        return self._bytes[token_id] if 0 <= token_id < self.vocab_size else b""

    @cached_property
    def line_ends(self) -> LineEnds:
        """The tokens after which a line is over; found on first use."""
        return LineEnds(self._bytes, self.eos_ids)


def configured_eos(folder: Path) -> set[int]:
    """End tokens that `generation_config.json` and `config.json` name; either may be missing."""
    found: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        if (folder / name).exists():
            found.update(id_list(read_json(folder / name, "").get("eos_token_id")))
    return found


def byte_table(backend: Backend, size: int, spoken: Collection[str] = ()) -> list[bytes]:
    """Bytes of every token, undoing byte-level BPE's printable alphabet.

    Added tokens have none, except those in `spoken`, which stand for their names.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    to_byte = {chr(b): b for b in printable}
    rest = [b for b in range(256) if b not in set(printable)]
    to_byte.update({chr(256 + n): b for n, b in enumerate(rest)})
    special = set(backend.get_added_tokens_decoder())
    table = []
    for i in range(size):
        token = backend.id_to_token(i)
        if token in spoken:
            table.append(str(token).encode())
        elif token is None or i in special:
            table.append(b"")
        else:
            table.append(bytes(to_byte[c] for c in token if c in to_byte))
    return table


class StreamDecoder:
    """Turns ids into text as they come, holding back bytes of unfinished characters."""

    __slots__ = ("_decoder", "_tokenizer")

    def __init__(self, tokenizer: TokenBytes) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """Text that this token completes."""
        return self.push_bytes(self._tokenizer.token_bytes(token_id))

    def push_bytes(self, data: bytes) -> str:
        """Text that these bytes complete."""
        return self._decoder.decode(data)


class TokenBytes(Protocol):
    """What a stream needs of a tokenizer."""

    def token_bytes(self, token_id: int) -> bytes:
        """Bytes of one token; empty for special tokens."""
        ...
