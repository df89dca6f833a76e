"""Prompts as text, for servers whose tokenizer is not here.

`TextTokenizer` stands in for the model's: its ids are bytes and special tokens, so that the ids of a
prompt are its text without loss, and its counts are estimates. `TextPrompt` takes such ids apart;
`fim_text`, `suffix_text` and `chat_messages` write them as the three kinds of server read them.
A server finds special tokens in any text: names of them in the user's text are broken by a blank.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qcoder.model.engine import FimOrder
from qcoder.model.errors import RemoteError
from qcoder.model.request import Prompt
from qcoder.model.tokenizer import Tokenizer

BYTES_PER_TOKEN = 3.6
"""Of source code, with the vocabularies of current coder models."""

PREFIX, SUFFIX, MIDDLE = "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"
REPOSITORY, FILE = "<|repo_name|>", "<|file_sep|>"
SPECIAL = {name: 256 + i for i, name in enumerate((PREFIX, SUFFIX, MIDDLE, REPOSITORY, FILE))}
NAMES = {number: name for name, number in SPECIAL.items()}

FimFormat = Literal["qwen", "qcoder", "starcoder", "deepseek"]


@dataclass(frozen=True, slots=True)
class FimMarks:
    """How a family of models writes the special tokens, and in which order it reads the parts."""

    order: FimOrder
    names: Mapping[str, str]


QWEN = {name: name for name in SPECIAL}
STARCODER = {name: name.replace("<|", "<").replace("|>", ">") for name in SPECIAL}
DEEPSEEK = {
    PREFIX: "<｜fim▁begin｜>",  # noqa: RUF001 - the names in that vocabulary
    SUFFIX: "<｜fim▁hole｜>",  # noqa: RUF001
    MIDDLE: "<｜fim▁end｜>",  # noqa: RUF001
    REPOSITORY: "# ",
    FILE: "\n# ",
}
FIM_MARKS: Mapping[str, FimMarks] = {
    "qwen": FimMarks("psm", QWEN),
    "qcoder": FimMarks("spm", QWEN),
    "starcoder": FimMarks("psm", STARCODER),
    "deepseek": FimMarks("psm", DEEPSEEK),
}
MARK = re.compile(r"<(?=[|｜][^\s<>]{1,40}[|｜]>|(?:fim_\w{1,16}|repo_name|file_sep)>)")  # noqa: RUF001
"""The first character of what a server might take for a special token."""

INSTRUCTION = (
    "You complete source code at a cursor. The user shows other parts of the project, then the "
    "file being edited with the cursor as [CURSOR]. Answer with exactly the text to insert at the "
    "cursor: no explanation, no code fence, nothing that is already before or behind the cursor."
)


class TextTokenizer:
    """Bytes and special tokens as ids; counts by `BYTES_PER_TOKEN`, or by a tokenizer's file."""

    def __init__(self, counter: Tokenizer | None = None) -> None:
        self.hash = counter.hash if counter else "text"
        self.vocab_size = 256 + len(SPECIAL)
        self.special: Mapping[str, int] = SPECIAL
        self.eos_ids: frozenset[int] = frozenset()
        self._counter = counter

    @staticmethod
    def load(path: str) -> TextTokenizer:
        """Count by the `tokenizer.json` at a path or in a folder; "" estimates."""
        if not path:
            return TextTokenizer()
        given = Path(path).expanduser()
        return TextTokenizer(Tokenizer.load(given.parent if given.suffix == ".json" else given))

    def encode(self, text: str) -> list[int]:
        """Bytes of the text."""
        return list(text.encode("utf-8", "replace"))

    def count(self, text: str) -> int:
        """How many tokens the server's model will see in plain text, about."""
        if self._counter is not None:
            return self._counter.count(text)
        return -int(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of bytes; special tokens give nothing."""
        return bytes(i for i in ids if i < 256).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The byte, or nothing for a special token."""
        return bytes([token_id]) if token_id < 256 else b""


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """A prompt's sections in order: the special token before each ("" for none) and its text."""

    sections: tuple[tuple[str, str], ...]

    @staticmethod
    def of(prompt: Prompt, order: FimOrder) -> TextPrompt:
        """Take ids of a `TextTokenizer` apart; what was left out for healing is put back."""
        parts: list[tuple[str, bytearray]] = [("", bytearray())]
        for number in prompt.ids:
            if number in NAMES:
                parts.append((NAMES[number], bytearray()))
            elif 0 <= number < 256:
                parts[-1][1].append(number)
            else:
                raise RemoteError("the prompt was made with another model's tokenizer")
        before_cursor = MIDDLE if order == "spm" else PREFIX
        for name, data in reversed(parts):
            if name == before_cursor or not any(n == before_cursor for n, _ in parts):
                data += prompt.healed
                break
        texts = [(name, safe(data.decode("utf-8", "replace"))) for name, data in parts]
        return TextPrompt(tuple((name, text) for name, text in texts if name or text))

    @property
    def context(self) -> str:
        """Everything before the file's own text: other parts of the project, the file's path."""
        own = (PREFIX, SUFFIX, MIDDLE)
        return "\n".join(text.rstrip("\n") for name, text in self.sections if name not in own)

    @property
    def prefix(self) -> str:
        """The file before the cursor; in either order one of the two is empty."""
        return "".join(text for name, text in self.sections if name in (PREFIX, MIDDLE))

    @property
    def suffix(self) -> str:
        """The file behind the cursor."""
        return "".join(text for name, text in self.sections if name == SUFFIX)


def safe(text: str) -> str:
    """Text in which no server finds a special token."""
    return MARK.sub("< ", text)


def fim_text(prompt: TextPrompt, marks: FimMarks) -> str:
    """The raw prompt, as the family of models was trained on it."""
    return "".join(marks.names.get(name, "") + text for name, text in prompt.sections)


def suffix_text(prompt: TextPrompt) -> tuple[str, str]:
    """`prompt` and `suffix` for servers that write the special tokens themselves."""
    context = prompt.context
    return (context + "\n" if context else "") + prompt.prefix, prompt.suffix


def chat_messages(prompt: TextPrompt) -> list[dict[str, str]]:
    """The conversation that asks a chat model for the text at the cursor."""
    # Of two equal marks a model could not tell which one is meant.
    before, behind = (
        text.replace("[CURSOR]", "[ CURSOR ]") for text in (prompt.prefix, prompt.suffix)
    )
    return [
        {"role": "system", "content": INSTRUCTION},
        {"role": "user", "content": f"{prompt.context}\n{before}[CURSOR]{behind}"},
    ]
