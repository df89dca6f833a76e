"""Which classes a text says that a variable, field or function has: declarations, without a checker.

The words of a declared type or of an assigned value are looked up. A class is taken as it is, a
function by the classes in its result type; further words count less. Where nothing is declared the
variable's own name may spell a class (`query_runner`, `QueryRunner`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import zip_longest

from qcoder.context.lookup import CLASS_KINDS, Lookup, Pair
from qcoder.context.record import FileRecord, Symbol

Sure = tuple[Pair, float]
"""A class and how sure it is, from 0 to 1."""

MAX_CLASSES = 6
_MAX_DECLARATIONS = 3
_MAX_VALUE_CHARS = 120
_MAX_WORDS = 8
_MAX_FUNCTIONS = 4
_DECAY = 0.8
_GUESSED = 0.6
_WORD = re.compile(r"[^\W\d]\w*")
_SPELLED = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_OWN_TYPE = frozenset({"this", "Self", "self"})


def declared(lookup: Lookup, name: str, text: str, home: FileRecord) -> Iterator[Sure]:
    """Classes in the last declarations of a name in a text of the file `home`."""
    values: list[tuple[int, str]] = []
    for pattern in _patterns(name, lookup.family):
        values += [(found.start(), found.group(1)) for found in pattern.finditer(text)]
    if lookup.family == "python":
        values += named_as(name, text)
    values.sort(key=lambda item: -item[0])
    for number, (_, value) in enumerate(values[:_MAX_DECLARATIONS]):
        for pair, sure in mentioned(lookup, value, home):
            yield pair, sure * _DECAY**number


def mentioned(lookup: Lookup, text: str, home: FileRecord) -> Iterator[Sure]:
    """Classes that a type or a value names, directly or as the result of a function."""
    sure = 1.0
    for word in _WORD.findall(text)[:_MAX_WORDS]:
        named = lookup.meant(word, home)
        if not named:
            continue
        for record, symbol in named[:_MAX_FUNCTIONS]:
            share = sure / min(2, len(named))
            if symbol.kind in CLASS_KINDS:
                yield (record, symbol), share
            else:
                for pair, certain in results(lookup, record, symbol):
                    yield pair, _DECAY * share * certain
        sure *= _DECAY


def results(lookup: Lookup, record: FileRecord, symbol: Symbol) -> Iterator[Sure]:
    """Classes in the result type of a function, by its signature; a class makes itself."""
    if symbol.kind in CLASS_KINDS:
        yield (record, symbol), 1.0
        return
    sure = 1.0
    for word in _WORD.findall(result_type(symbol))[:_MAX_FUNCTIONS]:
        if word in _OWN_TYPE:
            yield from (((record, s), sure) for s in _owner(record, symbol))
            continue
        found = [pair for pair in lookup.meant(word, record) if pair[1].kind in CLASS_KINDS]
        for pair in found[:2]:
            yield pair, sure / min(2, len(found))
        sure *= _DECAY


def result_type(symbol: Symbol) -> str:
    """The part of a signature that says what comes back; empty when it says nothing."""
    signature = symbol.signature
    _, arrow, tail = signature.rpartition("->")
    if arrow:
        return tail
    tail = signature[signature.rfind(")") + 1 :].strip()
    if signature.startswith("func ") and tail:
        return tail
    if signature.startswith("func "):
        # Several results stand in brackets of their own, behind those of the parameters.
        return signature.rpartition(") (")[2] if ") (" in signature[5:] else ""
    if tail.startswith(":"):
        return tail.partition("=>")[0]
    head, called, _ = signature.partition(symbol.name + "(")
    return head if called and not signature.startswith(("def ", "function ")) else ""


def spelled(lookup: Lookup, name: str) -> Iterator[Sure]:
    """Classes whose name a variable's name spells: whole, or without its first words."""
    words = _SPELLED.findall(name.strip("_"))
    for skipped in range(len(words)):
        guess = "".join(word[0].upper() + word[1:] for word in words[skipped:])
        if len(guess) < 3 or not lookup.index.is_defined(guess):
            continue
        classes = lookup.classes(guess)
        for pair in classes[:3]:
            yield pair, _GUESSED * _DECAY**skipped / len(classes[:3])


def distinct(found: Iterable[Sure]) -> list[Sure]:
    """The surest mention of every class, surest first."""
    best: dict[tuple[str, int], Sure] = {}
    for pair, sure in found:
        key = (pair[0].path, pair[1].start_byte)
        if key not in best or best[key][1] < sure:
            best[key] = (pair, sure)
    return sorted(best.values(), key=lambda item: -item[1])[:MAX_CLASSES]


def _patterns(name: str, family: str) -> list[re.Pattern[str]]:
    """Ways to declare a name; the group is its type or value."""
    word, value = re.escape(name), rf"[^\n]{{1,{_MAX_VALUE_CHARS}}}"
    ways = [rf"\b{word}[?!]?\s*(?::=|:|=(?!=)|\bin\b)({value})"]
    if family == "go":
        ways.append(rf"(?:[(,]\s*|\bvar\s+|^\s+){word}\s+([*\[\]\w.]+)")
    elif family not in ("js", "python"):
        ways.append(rf"\b([A-Z]\w*)(?:<[^<>;=]*>)?[\s*&]+{word}\s*[;=,)]")
    return [re.compile(way, re.MULTILINE) for way in ways]


def named_as(name: str, text: str) -> Iterator[tuple[int, str]]:
    """Where a line begins to say what it calls `name` by `as`, and what: `with VALUE as name`.

    From the rare word backwards: a pattern that begins with any text is tried at every place.
    """
    found = list(re.finditer(rf"\bas\s+{re.escape(name)}\b", text))
    end = 0
    for match, following in zip_longest(found, found[1:]):
        line = text.rfind("\n", 0, match.start()) + 1
        start = max(end, line, match.start() - _MAX_VALUE_CHARS)
        reach = text[start : start + _MAX_VALUE_CHARS + 1].partition("\n")[0]
        if following is not None and following.start() - start <= min(len(reach), _MAX_VALUE_CHARS):
            continue  # the last one of a line has the whole of it
        if start < match.start():
            yield start, text[start : match.start()]
            end = match.end()


def _owner(record: FileRecord, symbol: Symbol) -> list[Symbol]:
    return [owner for owner in record.facts.owners(symbol.owner) if owner.kind in CLASS_KINDS]
