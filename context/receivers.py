"""What can follow the dot before the cursor: members of a module, or of an object's class.

A chain such as `self.pool.connection()` is walked from its first name: its class by declaration,
then field by field and call by call. Where a step is lost, the last name of the chain is taken by
itself. A wrong guess costs a few signatures.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from qcoder.context.declared import Sure, declared, distinct, results, spelled
from qcoder.context.imports import EVERYTHING
from qcoder.context.lookup import CLASS_KINDS, Lookup, Pair
from qcoder.context.record import FileRecord, Symbol

Valued = tuple[FileRecord, Symbol, float]

_MAX_BASES_DEPTH = 6
_MAX_BASES = 8
_BASE_DECAY = 0.85
_MAX_FOLLOWED = 2
_MAX_HANDED_ON = 300
_PACKAGE_FILES = frozenset({"__init__", "index", "mod", "lib"})
_LOST = 0.7
_WORD = re.compile(r"[^\W\d]\w*")
_SELF = frozenset({"self", "this", "cls", "super()", "super", "@"})
_TYPED_SELF = re.compile(r"def\s+\w+\s*\(\s*self\s*:([^,)=]+)")
SELF_CHAINS = frozenset((name,) for name in _SELF)
"""What stands before a dot behind which an object's own members follow."""


def members(lookup: Lookup) -> Iterator[Valued]:
    """What can follow the dot, with how sure that is (0 to 1)."""
    wanted = lookup.site.wanted
    if not wanted.chain:
        return
    files = lookup.module_files(wanted.chain[-1])
    for path in files:
        yield from _of_module(lookup, path)
        yield from _handed_on(lookup, path)
    if not files:
        for pair, sure in _classes_of(lookup, wanted.chain):
            for home, method, decay in _members_of(lookup, pair):
                yield home, method, sure * decay


def _of_module(lookup: Lookup, path: str) -> Iterator[Valued]:
    record = lookup.record(path)
    go = lookup.family == "go"
    if record is None or (go and path.endswith("_test.go")):
        return
    for symbol in record.facts.symbols:
        public = symbol.name[:1].isupper() if go else not symbol.name.startswith("_")
        if not symbol.owner and not symbol.nested:
            yield record, symbol, 1.0 if public else 0.3


def _handed_on(lookup: Lookup, path: str) -> Iterator[Valued]:
    """What a package's file imports for others to use: `from .core import Engine`."""
    record = lookup.record(path)
    if record is None or posixpath.basename(path).partition(".")[0] not in _PACKAGE_FILES:
        return
    left = _MAX_HANDED_ON
    for statement in record.facts.imports:
        if EVERYTHING in statement.names:
            for inner in lookup.index.resolve(statement.module, path):
                yield from _of_module(lookup, inner)
        names = statement.taken()[:left]
        left -= len(names)
        for name in names:
            for home, symbol in lookup.index.imported(statement, name, path):
                if lookup.record(home.path) is not None:
                    yield home, symbol, 0.3 if name.startswith("_") else 1.0


def _classes_of(lookup: Lookup, chain: tuple[str, ...]) -> list[Sure]:
    """Classes that the object at the end of a chain may have."""
    found = _first(lookup, chain[0])
    for number, step in enumerate(chain[1:], start=1):
        if found:
            found = distinct(_steps(lookup, found, step))
        elif number == 1 and (files := lookup.module_files(chain[0])):
            found = distinct(_in_module(lookup, files[0], step))
    if len(chain) == 1 or (found and found[0][1] > _LOST):
        return found
    return distinct([*found, *((pair, _LOST * sure) for pair, sure in _first(lookup, chain[-1]))])


def _first(lookup: Lookup, name: str) -> list[Sure]:
    """Classes of a name that stands by itself."""
    site = lookup.site
    if name in _SELF:
        around = _typed_self(lookup) or _class_around(lookup)
        return [(around, 1.0)] if around else []
    bare = name.removesuffix("()")
    if name != bare:
        functions = lookup.meant(bare, site.file)
        return distinct(
            (pair, sure / len(functions[:3]))
            for record, symbol in functions[:3]
            for pair, sure in results(lookup, record, symbol)
        )
    classes = [pair for pair in lookup.meant(bare, site.file) if pair[1].kind in CLASS_KINDS]
    found = [(pair, 1.0 / min(2, len(classes))) for pair in classes]
    found = found or list(declared(lookup, bare, site.before, site.file))
    return distinct(found or spelled(lookup, bare))


def _steps(lookup: Lookup, found: list[Sure], step: str) -> Iterator[Sure]:
    """Classes of a field or of a call's result, for each class that the object may have."""
    name = step.removesuffix("()")
    for (record, owner), sure in found[:_MAX_FOLLOWED]:
        known = False
        for home, method, decay in _members_of(lookup, (record, owner)):
            if method.name == name:
                for pair, certain in results(lookup, home, method):
                    known = True
                    yield pair, sure * decay * certain
        if known or step != name:
            continue
        text = lookup.text_of(record, owner)
        for pair, certain in declared(lookup, name, text, record):
            known = True
            yield pair, sure * certain
        if not known:
            for pair, certain in spelled(lookup, name):
                yield pair, sure * certain


def _in_module(lookup: Lookup, path: str, step: str) -> Iterator[Sure]:
    """Classes of a module's class, function or variable."""
    record = lookup.record(path)
    if record is None:
        return
    name = step.removesuffix("()")
    own = [s for s in record.facts.symbols if s.name == name and not s.owner and not s.nested]
    for symbol in own:
        yield from results(lookup, record, symbol)
    if not own:
        yield from declared(lookup, name, lookup.text_of(record, None), record)


def _members_of(lookup: Lookup, start: Pair) -> Iterator[Valued]:
    """Methods of a class and of its bases, with a decay; an object's own ones first."""
    seen: set[tuple[str, int]] = set()
    level, sure = [start], 1.0
    for _ in range(_MAX_BASES_DEPTH):
        following: list[Pair] = []
        for file, owner in level:
            if (file.path, owner.start_byte) in seen:
                continue
            seen.add((file.path, owner.start_byte))
            for home, method in _methods(lookup, file, owner):
                yield home, method, sure
            for word in _WORD.findall(owner.signature)[: _MAX_BASES + 2]:
                if word != owner.name:
                    named = lookup.meant(word, file)
                    following += [pair for pair in named[:2] if pair[1].kind in CLASS_KINDS]
        level, sure = following[:_MAX_BASES], sure * _BASE_DECAY


def _methods(lookup: Lookup, file: FileRecord, owner: Symbol) -> Iterator[Pair]:
    full = owner.full_name
    for symbol in file.facts.members(full):
        yield file, symbol
    if lookup.family not in ("go", "rust", "c"):
        return
    # Methods are written outside of the type, in any file of the package.
    folder = posixpath.dirname(file.path)
    for path in lookup.index.in_folder(folder):
        record = lookup.record(path) if path != file.path else None
        if record is not None:
            for symbol in record.facts.members(full):
                yield record, symbol


def _typed_self(lookup: Lookup) -> Pair | None:
    """The class that a function outside of it names: `def visit(self: Translator, node)`."""
    before = lookup.site.before
    typed = _TYPED_SELF.match(before, max(0, before.rfind("def ")))
    words = _WORD.findall(typed[1]) if typed else []
    classes = [p for w in words[-1:] for p in lookup.meant(w, lookup.site.file)]
    return next((pair for pair in classes if pair[1].kind in CLASS_KINDS), None)


def _class_around(lookup: Lookup) -> Pair | None:
    """The innermost class around the cursor; in an unfinished text the last one begun."""
    site, around, begun = lookup.site, None, None
    for symbol in site.file.facts.symbols:
        if symbol.start_line <= site.line and symbol.kind in CLASS_KINDS:
            begun = symbol
            around = symbol if site.line < symbol.end_line else around
    chosen = around or begun
    return (site.file, chosen) if chosen else None
