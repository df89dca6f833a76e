"""Brings a docstring that is there in line with the code, and leaves all that is still true.

Entries are renamed, removed and added where `docstring_drift` says so; prose is never written anew and
nothing changes its place. Works on the docstring's own source lines, so that every other byte stays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from qcoder.lsp_server.docstring_drift import DEFAULT, Drift
from qcoder.lsp_server.docstring_reading import Entry, Kind, Written, read
from qcoder.lsp_server.docstring_shape import Parameter, Raised, Shape
from qcoder.lsp_server.docstring_style import Convention, Prose
from qcoder.lsp_server.docstring_tags import content

HEADER_LINES = {"google": 3, "numpy": 4, "rustdoc": 4, "xmldoc": 1}
"""Lines before the first entry of a rendered section: summary, blank, header. Elsewhere two."""

ENTRY_START = re.compile(r"[ \t]*(?:\*|//[/!]|//|#)?[ \t]*")

ORDER: tuple[Kind, ...] = ("parameter", "attribute", "yields", "returns", "raises")
WITHOUT_ENTRIES = frozenset({"plain", "godoc", "rustdoc", "xmldoc"})


@dataclass(slots=True)
class _Changes:
    """What happens to the rows of one docstring; `added` lines go before their row."""

    lines: list[str]
    removed: set[int] = field(default_factory=set)
    added: dict[int, list[str]] = field(default_factory=dict)

    def text(self) -> str:
        """The docstring after all changes."""
        rows: list[str] = []
        for at, line in enumerate(self.lines):
            rows += self.added.get(at, [])
            rows += [] if at in self.removed else [line]
        return "\n".join(rows + self.added.get(len(self.lines), []))


def merged(
    shape: Shape,
    drifts: Sequence[Drift],
    prose: Prose,
    convention: Convention,
    language: str,
    whole: bool,
) -> str | None:
    """Source text of the docstring without its drifts; None when nothing would change.

    `whole` also adds the sections that the docstring has not begun.
    """
    assert shape.existing is not None
    text = shape.existing.text
    written = read(text, language)
    has_types = any(e.type for e in written.of("parameter") + written.of("attribute"))
    if written.of("parameter") and not has_types:
        convention = replace(convention, types=False)
    changes = _Changes(opened(text, shape, convention, language))
    writer = _Writer(shape, written, prose, convention, language, changes)
    for drift in drifts:
        writer.settle(drift)
    if whole and convention.style not in WITHOUT_ENTRIES:
        writer.complete()
    if not (changes.removed or changes.added or changes.lines != writer.before):
        return None
    return changes.text()


def opened(text: str, shape: Shape, convention: Convention, language: str) -> list[str]:
    """The lines of a docstring with its closing mark on a line of its own."""
    indent = shape.place.indent
    if language == "python":
        start = re.match(r"([rRuU]?)(\"\"\"|'''|\"|')", text)
        assert start is not None
        prefix, quote = start.groups()
        inside = text[start.end() : len(text) - len(quote)]
        mark = quote if len(quote) == 3 else '"""'
        lines = f"{prefix}{mark}{inside}".split("\n")
        if len(lines) > 1 and not lines[-1].strip():
            return [*lines[:-1], indent + mark]
        return [*lines[:-1], lines[-1].rstrip(), indent + mark]
    if not text.startswith("/*"):
        return text.split("\n")
    lines = text.split("\n")
    if len(lines) == 1:
        inside = re.sub(r"^/\*[*!]+<?|\*+/$", "", text).strip()
        # The only row keeps its number: what stood in it, its opening mark above.
        return [f"/**\n{indent} * {inside}", f"{indent} */"]
    last = re.sub(r"\s*\*+/$", "", lines[-1])
    return lines if not last.strip(" \t*") else [*lines[:-1], last, f"{indent} */"]


class _Writer:
    """Turns drifts into changes of rows."""

    def __init__(
        self,
        shape: Shape,
        written: Written,
        prose: Prose,
        convention: Convention,
        language: str,
        changes: _Changes,
    ) -> None:
        self.shape, self.written, self.prose = shape, written, prose
        self.convention, self.language, self.changes = convention, language, changes
        self.before = list(changes.lines)
        self.gone: set[int] = set()

    def settle(self, drift: Drift) -> None:
        """One drift less; what has no safe repair stays for its author."""
        entry, parameter = drift.entry, drift.parameter
        if drift.rule == "renamed-parameter" and entry and parameter and entry.column >= 0:
            self.substitute(entry.row, entry.column, entry.name, parameter.name)
        elif drift.rule in ("unknown-parameter", "never-raised", "nothing-returned") and entry:
            self.remove(entry)
        elif drift.rule == "missing-parameter" and parameter:
            self.add_parameter(parameter)
        elif drift.rule == "missing-raises" and parameter:
            last = self.written.of("raises")[-1]
            self.insert(last.end, self.entry_lines("raises", parameter.name, last))
        elif drift.rule == "other-default" and entry and parameter:
            self.replace_default(entry, parameter)
        elif drift.rule == "other-type" and entry and parameter:
            line = self.changes.lines[entry.row]
            self.changes.lines[entry.row] = line.replace(entry.type, parameter.type, 1)
        elif drift.rule == "broken-style":
            self.mend(drift.row)

    def complete(self) -> None:
        """The sections that the code asks for and the docstring has not begun."""
        if self.shape.parameters and not self.written.has("parameter"):
            self.add_section("parameter", tuple(p.name for p in self.shape.parameters))
        lists = self.written.has("attribute") or self.written.has("parameter")
        if self.shape.attributes and not lists:
            self.add_section("attribute", tuple(p.name for p in self.shape.attributes))
        if self.shape.gives_value and not self.written.has("returns"):
            self.add_section("returns", ())
        if self.shape.yields and not (self.written.has("yields") or self.written.has("returns")):
            self.add_section("yields", ())
        if self.shape.raises and not self.written.has("raises"):
            self.add_section("raises", tuple(r.name for r in self.shape.raises))

    def substitute(self, row: int, column: int, old: str, new: str) -> None:
        """Another name at a place of a row."""
        line = self.changes.lines[row]
        if line[column : column + len(old)] == old:
            self.changes.lines[row] = line[:column] + new + line[column + len(old) :]

    def remove(self, entry: Entry) -> None:
        """An entry less, its section with it when it was the last; not one of several names."""
        if sum(e.row == entry.row for e in self.written.entries) > 1:
            return
        self.gone.add(entry.row)
        rows = set(range(entry.row, entry.end))
        for kind, start, end in self.written.sections:
            inside = [e for e in self.written.of(kind) if start <= e.row < end]
            if start <= entry.row < end and all(e.row in self.gone for e in inside):
                rows |= set(range(start, end))
                rows |= (
                    {start - 1}
                    if start and not self.changes.lines[start - 1].strip(" \t*/")
                    else set()
                )
        self.changes.removed |= {r for r in rows if 0 < r < len(self.changes.lines) - self.closes}

    @property
    def closes(self) -> int:
        """How many of the last rows hold nothing but the closing mark."""
        return int(self.language == "python" or self.before[0].startswith("/*"))

    def add_parameter(self, parameter: Parameter) -> None:
        """An entry behind that of the parameter before it, or before the first."""
        entries = {e.name: e for e in self.written.of("parameter")}
        names = [p.name for p in self.shape.parameters]
        for name in reversed(names[: names.index(parameter.name)]):
            if name in entries:
                near = entries[name]
                self.insert(near.end, self.entry_lines("parameter", parameter.name, near))
                return
        first = self.written.of("parameter")[0]
        self.insert(first.row, self.entry_lines("parameter", parameter.name, first))

    def insert(self, row: int, lines: list[str]) -> None:
        """Lines before a row, behind those that were put there already."""
        row = min(row, len(self.changes.lines) - self.closes)
        self.changes.added.setdefault(row, []).extend(lines)

    def entry_lines(self, kind: Kind, name: str, near: Entry) -> list[str]:
        """Source lines of a new entry, begun as the one `near` it."""
        lines = self.rendered(kind, (name,))[HEADER_LINES.get(self.convention.style, 2) :]
        if near.row == 0:
            return self.marked(lines)
        start = ENTRY_START.match(self.changes.lines[near.row])
        assert start is not None
        if self.convention.style == "google":
            lines = [line[4:] for line in lines]
        return self.marked(lines, start.group())

    def add_section(self, kind: Kind, names: tuple[str, ...]) -> None:
        """A new section before those that come after it by custom, else at the end."""
        lines = self.rendered(kind, names)[1:]
        if self.convention.style in ("google", "numpy"):
            later = [s[1] for s in self.written.sections if ORDER.index(s[0]) > ORDER.index(kind)]
            if later:
                self.insert(min(later), self.marked([*lines[1:], ""]))
                return
        else:
            later = [e.row for e in self.written.entries if ORDER.index(e.kind) > ORDER.index(kind)]
            lines = lines[1:] if self.written.entries or self.changes.added else lines
            if later:
                self.insert(min(later), self.marked(lines))
                return
        self.insert(len(self.changes.lines), self.marked(lines))

    def rendered(self, kind: Kind, names: tuple[str, ...]) -> list[str]:
        """A docstring of nothing but a summary and the named entries of one kind."""
        shape = self.shape
        only = replace(
            shape,
            parameters=tuple(
                p for p in shape.parameters if kind == "parameter" and p.name in names
            ),
            type_parameters=(),
            attributes=tuple(
                p for p in shape.attributes if kind == "attribute" and p.name in names
            ),
            gives_value=shape.gives_value and kind == "returns",
            yields=shape.yields and kind == "yields",
            raises=tuple(self.raised(n) for n in names) if kind == "raises" else (),
        )
        return content(only, replace(self.prose, summary="."), self.convention, self.language)

    def raised(self, name: str) -> Raised:
        """The exception of a name."""
        return next((r for r in self.shape.raises if r.name == name), Raised(name))

    def marked(self, lines: Sequence[str], start: str | None = None) -> list[str]:
        """Lines with the indent and the mark that all lines of the docstring have, or `start`."""
        indent = self.shape.place.indent
        if self.language == "python":
            raw = self.before[0][:1] in "rR"
            lines = lines if raw else [line.replace("\\", "\\\\") for line in lines]
            begin = indent if start is None else start
        elif start is not None:
            begin = start
        else:
            mark = " *" if self.before[0].startswith("/*") else self.convention.mark
            begin = f"{indent}{mark} "
        return [f"{begin}{line}".rstrip() for line in lines]

    def replace_default(self, entry: Entry, parameter: Parameter) -> None:
        """The real default in place of the one that is written."""
        for row in range(entry.row, entry.end):
            line = self.changes.lines[row]
            said = DEFAULT.search(line)
            if said:
                value = said.group(1).rstrip(".")
                end = said.start(1) + len(value)
                self.changes.lines[row] = line[: said.start(1)] + parameter.default + line[end:]
                return

    def mend(self, row: int) -> None:
        """A line under a header as long as it, a colon where one is missing."""
        line = self.changes.lines[row]
        if re.fullmatch(r"\s*[-=]{2,}", line):
            title, mark = self.changes.lines[row - 1], line.strip()[0]
            self.changes.lines[row] = line[: len(line) - len(line.lstrip())] + mark * len(
                title.strip()
            )
        elif re.fullmatch(r"\s*(?:\w+|:\w+ +\w+)\s*", line):
            self.changes.lines[row] = line.rstrip() + ":"
