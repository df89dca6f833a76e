"""The place to complete: what stands near it, and what kind of name is wanted there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qcoder.context.record import FileRecord, identifiers_of

NEAR_LINES = 80
SIMILAR_LINES = 40
_AFTER_LINES = 10
_AFTER_DISTANCE = 10
_MAX_CHAIN_CHARS = 3000
_TYPED = re.compile(r"\w*\Z")
_DOT = re.compile(r"(?:\?\.|!\.|\.|->|::)\s*\Z")
_WORD = re.compile(r"[\w$@]+\Z")
_MAKES_OBJECT = re.compile(r"\b(?:new|raise|throw|except|extends|implements|instanceof)\s+\Z")
_CLOSERS = {")": "(", "]": "[", "}": "{", ">": "<"}

_FAMILIES = {
    "javascript": "js",
    "javascriptreact": "js",
    "typescript": "js",
    "typescriptreact": "js",
    "vue": "js",
    "svelte": "js",
    "c": "c",
    "cpp": "c",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What kind of name is wanted at the cursor.

    `typed` is the part of it that is there. After a dot, `chain` names what the dot is behind,
    outermost first; a call in it ends in "()". `is_class` says that a class has to follow.
    """

    typed: str
    is_member: bool
    chain: tuple[str, ...]
    is_class: bool


NOTHING_WANTED = Wanted("", False, (), False)


@dataclass(frozen=True, slots=True)
class Site:
    """The place to complete. `file` is the current file's record in its current version.

    `near` maps names to how many identifiers lie between them and the cursor, `similar` are the
    names of the last lines before it. Lines [hidden_start, hidden_end) are in the window already.
    """

    file: FileRecord
    before: str
    wanted: Wanted
    near: Mapping[str, int]
    similar: frozenset[str]
    line: int
    hidden_start: int
    hidden_end: int
    recent: tuple[str, ...]


def make_site(
    file: FileRecord,
    prefix: str,
    suffix: str,
    hidden: tuple[int, int],
    recent: Sequence[str],
) -> Site:
    """Describe a cursor by the text before and after it."""
    lines = prefix.split("\n")
    before = lines[-NEAR_LINES:]
    near: dict[str, int] = {}
    for distance, name in enumerate(reversed(identifiers_of("\n".join(before)))):
        near.setdefault(name, distance)
    after = "\n".join(suffix.split("\n", _AFTER_LINES)[:_AFTER_LINES])
    for distance, name in enumerate(identifiers_of(after)):
        near.setdefault(name, distance + _AFTER_DISTANCE)
    similar = frozenset(identifiers_of("\n".join(before[-SIMILAR_LINES:])))
    return Site(
        file,
        prefix,
        wanted_at(prefix),
        near,
        similar,
        len(lines) - 1,
        hidden[0],
        hidden[1],
        tuple(recent),
    )


def family(language: str) -> str:
    """Languages of one family can name each other's definitions."""
    return _FAMILIES.get(language, language)


def wanted_at(prefix: str) -> Wanted:
    """Read backwards from the cursor: the typed part, a dot, and what the dot is behind."""
    text = prefix[-_MAX_CHAIN_CHARS:]
    match = _TYPED.search(text)
    typed = match.group() if match else ""
    text = text[: len(text) - len(typed)]
    dot = _DOT.search(text)
    if dot is None or (dot.group().strip() == "." and text[: dot.start()][-1:] == "."):
        return Wanted(typed, False, (), _MAKES_OBJECT.search(text) is not None)
    chain: list[str] = []
    while dot is not None and len(chain) < 12:
        text = text[: dot.start()].rstrip()
        called, text = _without_brackets(text)
        word = _WORD.search(text)
        if word is None:
            # A literal, or something in brackets: it is what a call of nothing gives.
            chain.append("()")
            break
        chain.append(word.group() + ("()" if called else ""))
        text = text[: word.start()]
        dot = _DOT.search(text)
    return Wanted(typed, True, tuple(reversed(chain)), False)


def _without_brackets(text: str) -> tuple[bool, str]:
    """Drop `(...)`, `[...]` and `<...>` from the end; whether one of them was a call."""
    called = False
    while text[-1:] in _CLOSERS:
        closer, depth, at = text[-1], 0, len(text) - 1
        opener = _CLOSERS[closer]
        while at >= 0:
            depth += (text[at] == closer) - (text[at] == opener)
            if depth == 0:
                break
            at -= 1
        if at < 0:
            return called, ""
        called = called or closer == ")"
        text = text[:at].rstrip()
    return called, text
