"""What a call means, from sources other than the ranking under test.

Python asks jedi, with the file cut off behind the callee's name. TypeScript and Go have no such
library for Python: there, imports are followed as the languages define them (relative modules and
their re-exports; import paths below the module of the nearest go.mod), and types come from
declarations before the call. What stays unclear is no task.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from qcoder.context.index import Index
from qcoder.context.record import FileRecord, Symbol
from retrieval.sites import CallSite

Pair = tuple[FileRecord, Symbol]
_MAX_HOPS = 4
_MAX_QUESTIONS = 8


class Truth(Protocol):
    """How one language says what a call means."""

    def is_imported(self, site: CallSite) -> bool:
        """Whether an import before the call brings the name, or the module that qualifies it."""
        ...

    def resolve(self, site: CallSite, named: Sequence[Pair], text: str, path: str) -> Pair | None:
        """Which of the definitions of its name the call means; None when that is unclear."""
        ...


class PythonTruth:
    """By jedi; at most `_MAX_QUESTIONS` a file, because it takes up to seconds for one."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._project: object | None = None
        self._asked: Counter[str] = Counter()

    def is_imported(self, site: CallSite) -> bool:
        """By the words of the import statements."""
        head = site.receiver or site.name
        return head.isidentifier() and head in site.imported_words

    def resolve(self, site: CallSite, named: Sequence[Pair], text: str, path: str) -> Pair | None:
        """Goto, imports followed; the one definition that it leads to."""
        import jedi  # a tool of the benchmarks alone

        self._asked[path] += 1
        if self._asked[path] > _MAX_QUESTIONS:
            return None
        root = self._index.root
        if self._project is None:
            self._project = jedi.Project(root, smart_sys_path=True, load_unsafe_extensions=False)
        code = text[: site.offset] + site.name
        column = len(code) - code.rfind("\n") - 1
        script = jedi.Script(code, path=root / path, project=self._project)
        try:
            names = script.goto(code.count("\n") + 1, column, follow_imports=True)
        except Exception:  # jedi raises whatever its inference stumbles over
            return None
        places = {(str(name.module_path), name.line) for name in names if name.line}
        if len(places) != 1:
            return None
        file, line = places.pop()
        for record, symbol in named:
            at_name = symbol.start_line <= line - 1 < symbol.end_line
            near = line - 1 - symbol.start_line < 12 and symbol.kind != "class"
            is_it = at_name and (near or line - 1 <= symbol.start_line + 3)
            if str(root / record.path) == file and is_it:
                return record, symbol
        return None


class TypeScriptTruth:
    """By relative imports and declared types."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def is_imported(self, site: CallSite) -> bool:
        """By the words of the import statements."""
        head = site.receiver or site.name
        return head.isidentifier() and head in site.imported_words

    def resolve(self, site: CallSite, named: Sequence[Pair], text: str, path: str) -> Pair | None:
        """The imported definition, or the method of the receiver's declared class."""
        if not site.receiver:
            file = self._imported_from(site.name, site.imports, path)
            if file is None and len(named) == 1:
                return named[0]  # by an alias of the build's settings
            return self._find(file, named) if file else None
        declared = self._declared_type(site.receiver, text[: site.offset])
        if declared is None:
            return None
        owner, file = declared, self._imported_from(declared, site.imports, path)
        for _ in range(_MAX_HOPS):
            record, symbol = self._class(owner, file)
            if record is None or symbol is None:
                return None
            for pair in named:
                inside = symbol.start_byte < pair[1].start_byte < symbol.end_byte
                if pair[0].path == record.path and inside:
                    return pair
            base = re.search(r"\bextends\s+(\w+)", symbol.signature)
            if base is None:
                return None
            own = self._index.text(record.path) or ""
            owner = base.group(1)
            file = self._imported_from(
                owner, re.findall(r"import[^;]*?from[^;\n]*", own), record.path
            )
        return None

    def _class(self, name: str, file: str | None) -> tuple[FileRecord | None, Symbol | None]:
        found = [
            pair
            for pair in self._index.symbols_named(name, 200)
            if pair[1].kind in ("class", "interface") and file in (None, pair[0].path)
        ]
        return found[0] if len(found) == 1 else (None, None)

    def _declared_type(self, receiver: str, before: str) -> str | None:
        if receiver == "this":
            bases = re.findall(r"\bclass\s+\w+(?:<[^{]*?>)?\s+extends\s+(\w+)", before)
            return bases[-1] if bases else None
        name = receiver.removeprefix("this.")
        if not name.isidentifier():
            return None
        ways = re.findall(
            rf"\b{name}\s*[?!]?\s*:\s*([A-Z]\w*)(?=[\s,;=)<])|\b{name}\s*=\s*new\s+([A-Z]\w*)",
            before,
        )
        return (ways[-1][0] or ways[-1][1]) if ways else None

    def _imported_from(self, name: str, imports: Sequence[str], path: str) -> str | None:
        for statement in imports:
            if re.search(rf"\b{name}\b", statement) and not re.search(
                rf"\b{name}\s+as\b", statement
            ):
                module = re.search(r"""from\s+["']([^"']+)["']""", statement)
                if module and module.group(1).startswith("."):
                    return self._follow(name, module.group(1), path, _MAX_HOPS)
        return None

    def _follow(self, name: str, module: str, importer: str, hops: int) -> str | None:
        base = posixpath.normpath(posixpath.join(posixpath.dirname(importer), module))
        base = re.sub(r"\.(js|ts)x?$", "", base)
        for suffix in (".ts", ".tsx", "/index.ts", "/index.tsx"):
            record = self._index.record(base + suffix)
            if record is None:
                continue
            if any(s.name == name and not s.nested for s in record.facts.symbols):
                return record.path
            text = self._index.text(record.path) or ""
            onward = re.findall(r"""export\s+(\*|\{[^}]*\})\s+from\s+["'](\.[^"']*)["']""", text)
            for what, next_module in onward if hops else []:
                if what == "*" or re.search(rf"\b{name}\b", what):
                    file = self._follow(name, next_module, record.path, hops - 1)
                    if file:
                        return file
        return None

    def _find(self, file: str, named: Sequence[Pair]) -> Pair | None:
        found = [pair for pair in named if pair[0].path == file and not pair[1].owner]
        return found[0] if len(found) == 1 else None


class GoTruth:
    """By import paths, and types declared in the enclosing function."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._modules = {}
        for path in index.paths():
            if posixpath.basename(path) == "go.mod":
                match = re.search(r"^module\s+(\S+)", index.text(path) or "", re.MULTILINE)
                if match:
                    self._modules[match.group(1)] = posixpath.dirname(path)

    def is_imported(self, site: CallSite) -> bool:
        """Whether the receiver is a package of this repository."""
        return self._package(site.receiver, site.imports) is not None

    def resolve(self, site: CallSite, named: Sequence[Pair], text: str, path: str) -> Pair | None:
        """The package's function, or the method of the receiver's type."""
        folder = self._package(site.receiver, site.imports)
        if folder is not None:
            found = [p for p in named if posixpath.dirname(p[0].path) == folder and not p[1].owner]
        else:
            declared = self._declared_type(site.receiver, text[: site.offset])
            if declared is None:
                return None
            package, _, name = declared.rpartition(".")
            home = self._package(package, site.imports) if package else posixpath.dirname(path)
            found = [
                p for p in named if p[1].owner == name and posixpath.dirname(p[0].path) == home
            ]
        found = [p for p in found if not p[0].path.endswith("_test.go")] or found
        return found[0] if len(found) == 1 else None

    def _package(self, name: str, imports: Sequence[str]) -> str | None:
        for spec in imports if name.isidentifier() else ():
            match = re.match(r"(?:(\w+)\s+)?\"([^\"]+)\"", spec)
            if match is None or (match.group(1) or posixpath.basename(match.group(2))) != name:
                continue
            for module, folder in self._modules.items():
                if match.group(2).startswith(module + "/"):
                    below = match.group(2)[len(module) + 1 :]
                    return posixpath.join(folder, below)
        return None

    def _declared_type(self, receiver: str, before: str) -> str | None:
        if not receiver.isidentifier():
            return None
        body = before[before.rfind("\nfunc ") + 1 :]
        ways = re.findall(
            rf"[(,]\s*{receiver}\s+\*?([\w.]+)\s*[,)]|\b{receiver}\s*:?=\s*&?([\w.]+)\{{"
            rf"|\bvar\s+{receiver}\s+\*?([\w.]+)",
            body,
        )
        return next((name for name in ways[-1] if name), None) if ways else None


TRUTHS: dict[str, Callable[[Index], Truth]] = {
    "python": PythonTruth,
    "typescript": TypeScriptTruth,
    "go": GoTruth,
}
