"""What one request asks of the index, remembered for its duration, in the cursor's language."""

from __future__ import annotations

import copy
import posixpath
import re
from collections.abc import Iterator

from qcoder.context.imports import Import
from qcoder.context.index import Index
from qcoder.context.record import FileRecord, Symbol
from qcoder.context.site import Site, family

Pair = tuple[FileRecord, Symbol]

CLASS_KINDS = frozenset(
    {"class", "struct", "interface", "trait", "enum", "type", "union", "protocol", "object"}
)
MAX_NAMED = 24
_MAJOR = re.compile(r"(?:^|\.)v\d+$")
MAX_IMPORTED_FILES = 60


class Lookup:
    """Definitions and imports as seen from one cursor."""

    def __init__(self, index: Index, site: Site) -> None:
        self.index = index
        self.site = site
        self.family = family(site.file.facts.language)
        self.folder = posixpath.dirname(site.file.path)
        self._named: dict[str, list[Pair]] = {}
        self._own: dict[str, list[Symbol]] = {}
        for symbol in site.file.facts.symbols:
            if not symbol.nested:
                self._own.setdefault(symbol.name, []).append(symbol)
        self._meant: dict[tuple[str, str], list[Pair]] = {}
        self._texts: dict[str, str] = {}
        self._records: dict[str, FileRecord | None] = {}
        self.imported = self._imported_files()
        self._visible = frozenset(self.imported)

    def record(self, path: str) -> FileRecord | None:
        """The record of a path whose definitions the current file could name, else None."""
        if path not in self._records:
            record = self.site.file if path == self.site.file.path else self.index.record(path)
            usable = record is not None and family(record.facts.language) == self.family
            self._records[path] = record if usable else None
        return self._records[path]

    def at(self, site: Site) -> Lookup:
        """The same for another cursor of the same file; what is known already is shared."""
        moved = copy.copy(self)
        moved.site = site
        return moved

    def named(self, name: str) -> list[Pair]:
        """Definitions of a name outside functions, those of the current version of this file too."""
        if name not in self._named:
            own = self.site.file
            pairs = [
                (record, symbol)
                for record, symbol in self.index.symbols_named(name, MAX_NAMED)
                if record.path != own.path and family(record.facts.language) == self.family
            ]
            self._named[name] = pairs + [(own, symbol) for symbol in self._own.get(name, ())]
        return self._named[name]

    def is_visible(self, path: str) -> bool:
        """Whether the file is this one, imported by it, or of its package where that suffices."""
        if path == self.site.file.path or path in self._visible:
            return True
        return self.family in ("go", "java") and posixpath.dirname(path) == self.folder

    def classes(self, name: str) -> list[Pair]:
        """Classes of a name; only the visible ones when there are any."""
        found = [pair for pair in self.named(name) if pair[1].kind in CLASS_KINDS]
        return [pair for pair in found if self.is_visible(pair[0].path)] or found

    def meant(self, name: str, home: FileRecord) -> list[Pair]:
        """Definitions that a name in the file `home` means: by its imports, its own, else any."""
        key = (name, home.path)
        if key not in self._meant:
            self._meant[key] = self._mean(name, home)
        return self._meant[key]

    def _mean(self, name: str, home: FileRecord) -> list[Pair]:
        found = []
        for statement in home.facts.imports:
            if name in statement.names or any(alias == name for alias, _ in statement.aliases):
                found += self.index.imported(statement, name, home.path)
        if not found and (self.index.is_defined(name) or name in self._own):
            found = self.named(name)
            folder = posixpath.dirname(home.path)
            beside = [p for p in found if p[0].path == home.path] or [
                p for p in found if posixpath.dirname(p[0].path) == folder
            ]
            found = beside or [p for p in found if self.is_visible(p[0].path)] or found
        return [pair for pair in found if self.record(pair[0].path) is not None]

    def text_of(self, record: FileRecord, symbol: Symbol | None) -> str:
        """Text of a file or of one definition in it; of the current file, what is before the cursor."""
        if record.path not in self._texts:
            own = record.path == self.site.file.path
            text = self.site.before if own else self.index.text_of(record)
            self._texts[record.path] = text or ""
        text = self._texts[record.path]
        if symbol is None:
            return text
        last = None if record.path == self.site.file.path else symbol.end_line
        return "\n".join(text.split("\n")[symbol.start_line : last])

    def module_files(self, name: str) -> list[str]:
        """Files of the module that an imported name stands for; empty for anything else."""
        found: dict[str, None] = {}
        importer = self.site.file.path
        for statement in self.site.file.facts.imports:
            for module in _modules_called(statement, name):
                for path in self.index.resolve(module, importer):
                    found.setdefault(path)
        if self.family == "go" and found:
            # A package may have more files than a module resolves to.
            return self.index.in_folder(posixpath.dirname(next(iter(found))))
        return list(found)

    def _imported_files(self) -> list[str]:
        paths: dict[str, None] = {}
        for found in self.site.file.facts.imports:
            for module in (found.module, *(f"{found.module}/{name}" for name in found.names)):
                for path in self.index.resolve(module, self.site.file.path):
                    paths.setdefault(path)
                if len(paths) >= MAX_IMPORTED_FILES:
                    return list(paths)
        return list(paths)


def _modules_called(statement: Import, name: str) -> Iterator[str]:
    """Module paths that a name may stand for by one import statement."""
    original = statement.original(name)
    if (name, "") in statement.aliases:
        yield statement.module
    elif original is not None and original in statement.names:
        yield f"{statement.module}/{original}"
    elif not statement.names and not statement.aliases and name in _last_words(statement.module):
        yield statement.module


def _last_words(module: str) -> tuple[str, ...]:
    """What a module may be called where it is used; Go's major versions are not part of that."""
    path, _, last = module.rpartition("/")
    if _MAJOR.fullmatch(last):
        return last, path.rpartition("/")[2]
    return last, _MAJOR.sub("", last)
