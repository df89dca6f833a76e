"""The ids of a byte-level BPE tokenizer by tiktoken, several times as fast, where they are the same.

tiktoken merges any two neighbours whose bytes are a token, the lowest id first; the tokenizers
library merges the pairs of its list, in its order. Both do the same when

- ids of merged tokens ascend in the order of the list, and
- every token's own text becomes that one token.

Proof: say that x and y stand side by side on the way and xy is a token, but (x, y) is not listed.
No merge has crossed the ends of xy so far, so inside it everything went as for the text xy alone.
From [x, y] nothing leads on there, so the text xy does not become one token: a contradiction.

`fast_encode` checks both when a model is loaded, and that nothing else of the file works on text.
The expression that splits text into words runs on two engines; the tests compare them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import tiktoken
from tokenizers import Tokenizer as Backend

MAX_CHARS = 200_000
"""tiktoken's regular expressions give up on runs of blanks of several times this length."""

WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen's models and the default one split text into words: both engines agree on it."""

_MODEL_OPTIONS = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
_NUM_BYTES = 256


def fast_encode(
    data: bytes, backend: Backend, token_bytes: Sequence[bytes]
) -> Callable[[str], list[int]] | None:
    """A function with the ids of `backend`, or None where they are not proven to be the same.

    `data` is the `tokenizer.json` of `backend`, which must take no added token out of text;
    `token_bytes` has the bytes of each id. The function takes valid Unicode.
    """
    spec = json.loads(data)
    if not _splits_alike(spec) or not _merges_ascend(spec["model"]):
        return None
    added = {token["id"] for token in spec.get("added_tokens") or ()}
    merged = {name: at for name, at in spec["model"]["vocab"].items() if at not in added}
    ranks = {token_bytes[at]: at for at in merged.values()}
    if len(ranks) != len(merged) or sum(len(token) == 1 for token in ranks) != _NUM_BYTES:
        return None
    if any([part.value for part in backend.model.tokenize(name)] != [name] for name in merged):
        return None
    encoding = tiktoken.Encoding("", pat_str=WORDS, mergeable_ranks=ranks, special_tokens={})
    normalized = spec.get("normalizer") is not None

    def encode(text: str) -> list[int]:
        if len(text) > MAX_CHARS or (normalized and not text.isascii()):
            ids: list[int] = backend.encode(text, add_special_tokens=False).ids
            return ids
        return encoding.encode_ordinary(text)

    return encode


def _splits_alike(spec: dict[str, Any]) -> bool:
    """Whether the file splits text by `WORDS` and changes nothing else of ASCII text."""
    if (spec.get("normalizer") or {"type": "NFC"}) != {"type": "NFC"}:
        return False
    steps: list[dict[str, Any]] = (spec.get("pre_tokenizer") or {}).get("pretokenizers") or []
    if [step.get("type") for step in steps] != ["Split", "ByteLevel"]:
        return False
    split, byte_level = steps
    return bool(
        split["pattern"] == {"Regex": WORDS}
        and split["behavior"] == "Isolated"
        and not split["invert"]
        and not byte_level["add_prefix_space"]
        and not byte_level["use_regex"]
    )


def _merges_ascend(model: dict[str, Any]) -> bool:
    """Whether a plain BPE model merges in the order of ids."""
    if model["type"] != "BPE" or model.get("byte_fallback"):
        return False
    if any(model.get(option) for option in _MODEL_OPTIONS):
        return False
    pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"])
    ids = [model["vocab"].get("".join(pair), -1) for pair in pairs]
    return all(before < after for before, after in pairwise([-1, *ids]))
