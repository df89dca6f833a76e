"""What a docstring must say about a definition, whatever the language: the data that is passed on.

A `Shape` holds parameters, result, exceptions and attributes of one definition, the place where its
docstring goes and the docstring that is there. The readers (`docstring_python.py`,
`docstring_comment.py`) fill it from the syntax tree; nothing in it is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

MAX_DEFAULT = 30
"""Longest default value, in characters, that is repeated in a docstring."""

NULLS = frozenset({"None", "null", "undefined", "nullptr", "NULL"})
"""How languages write that there is nothing."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter, type parameter or attribute; texts are "" when absent.

    `stars` is "", "*" or "**". `passed_to` is the one callee that a starred parameter goes to.
    `unnamed` says that the code takes it apart, and the name is ours.
    """

    name: str
    type: str = ""
    default: str = ""
    stars: str = ""
    passed_to: str = ""
    unnamed: bool = False


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception that leaves a body.

    `condition` is the source text under which it is raised (several joined by "` and `" or "` or `",
    to stand between backticks), `message` the text it is raised with, "" when there is none; `again` says that it is only handed on from a handler.
    """

    name: str
    condition: str = ""
    message: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where to insert: 0-based position, what goes before, the block's indent, what goes after."""

    line: int
    column: int
    before: str
    indent: str
    after: str


@dataclass(frozen=True, slots=True)
class Existing:
    """The docstring that is there: its range (0-based, half-open) and its source text."""

    line: int
    column: int
    end_line: int
    end_column: int
    text: str


@dataclass(frozen=True, slots=True)
class Shape:
    """One definition, or a module (`kind` "module", "class", "function", "method", "property").

    `line` is the 0-based line of its name, `span` its lines, half-open. `generates` marks a
    generator, `yields` one that yields something, `as_context` one that is made a context manager. `returned` are the values
    that its return statements give ("" for one that is no name). `documented` may be true without
    `existing`: what stands there is no plain text that could be changed. `all_raises` says that
    nothing but `reached`, its own exceptions and those of callees in the file, can leave the body,
    besides what operators raise (`implicit_raises`); it is only looked into where a docstring
    lists exceptions. `stub` says that there is no body to read from, `decorated` that a decorator may take
    other parameters than the function. `contents` are the names that
    a module defines. `spoken` is the name without the prefix that a library's names share.
    """

    name: str
    symbol: str
    kind: str
    line: int
    span: tuple[int, int]
    place: Place
    parameters: tuple[Parameter, ...] = ()
    type_parameters: tuple[Parameter, ...] = ()
    attributes: tuple[Parameter, ...] = ()
    returns: str = ""
    gives_value: bool = False
    yields: bool = False
    generates: bool = False
    as_context: bool = False
    returned: tuple[str, ...] = ()
    raises: tuple[Raised, ...] = ()
    panics: bool = False
    unsafe: bool = False
    fallible: bool = False
    all_raises: bool = False
    reached: tuple[str, ...] = ()
    implicit_raises: bool = False
    stub: bool = False
    decorated: bool = False
    documented: bool = False
    existing: Existing | None = None
    public: bool = True
    bases: tuple[str, ...] = ()
    spoken: str = ""
    contents: tuple[str, ...] = ()


MAX_CONDITIONS = 2
"""Conditions of one exception that are spelled out; more of them read worse than none."""


def one_each(found: Iterable[Raised]) -> list[Raised]:
    """Each exception once, in order; what holds for one of its raise statements only is left out."""
    by_name: dict[str, list[Raised]] = {}
    for raised in found:
        by_name.setdefault(raised.name, []).append(raised)
    return [together(group) for group in by_name.values()]


def together(group: list[Raised]) -> Raised:
    """Several raise statements of one exception."""
    first = group[0]
    if len(group) == 1:
        return first
    conditions = list(dict.fromkeys(r.condition for r in group))
    told = all(conditions) and len(conditions) <= MAX_CONDITIONS
    return Raised(
        first.name,
        condition="` or `".join(conditions) if told else "",
        message=first.message if len({r.message for r in group}) == 1 else "",
        again=all(r.again for r in group),
    )


def flat(text: str) -> str:
    """Text on one line."""
    return re.sub(r"\s+", " ", text).strip()


def short(text: str) -> str:
    """A default value on one line; "" when it is too long to repeat or would end a docstring."""
    text = flat(text)
    return text if len(text) <= MAX_DEFAULT and '"""' not in text and "*/" not in text else ""


def split_at(text: str, line: int, column: int) -> tuple[str, str]:
    """The text before and behind a 0-based position."""
    at = 0
    for _ in range(line):
        at = text.index("\n", at) + 1
    return text[: at + column], text[at + column :]
