"""What a docstring that is there documents: its entries, with the rows that they stand on.

Sections of google and numpy style, field lists, tags of comments, XML elements, Rust's lists. Text
that fits none of them is prose and nobody's business. Rows count from the docstring's first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["parameter", "attribute", "returns", "yields", "raises"]

SECTIONS: dict[str, Kind] = {
    "args": "parameter", "arguments": "parameter", "parameters": "parameter", "params": "parameter",
    "other parameters": "parameter", "keyword args": "parameter", "keyword arguments": "parameter",
    "attributes": "attribute", "returns": "returns", "return": "returns", "yields": "yields",
    "yield": "yields", "raises": "raises", "raise": "raises",
}  # fmt: skip
OTHER_SECTIONS = frozenset(
    {
        "example", "examples", "note", "notes", "warning", "warnings", "see also", "references", "todo",
        "methods", "warns", "receives", "usage", "caution", "danger", "hint", "important", "tip",
    }
)  # fmt: skip
FIELDS: dict[str, Kind] = {
    "param": "parameter", "parameter": "parameter", "arg": "parameter", "argument": "parameter",
    "key": "parameter", "keyword": "parameter", "kwarg": "parameter", "kwparam": "parameter",
    "ivar": "attribute", "cvar": "attribute", "var": "attribute", "return": "returns",
    "returns": "returns", "yield": "yields", "yields": "yields", "raise": "raises",
    "raises": "raises", "except": "raises", "exception": "raises",
}  # fmt: skip
TAGS: dict[str, Kind] = {
    "param": "parameter", "arg": "parameter", "argument": "parameter", "return": "returns",
    "returns": "returns", "result": "returns", "yields": "yields", "throws": "raises",
    "throw": "raises", "exception": "raises",
}  # fmt: skip

NAMES = r"\\?\*{0,2}(?:\\\*)*[\w.$]+"
GOOGLE_ENTRY = re.compile(
    rf"({NAMES}(?:\s*,\s*{NAMES})*)[ \t]*(?:\((.*?)\))?[ \t]*:(?!:)(?=\s|$)(.*)"
)
NUMPY_ENTRY = re.compile(rf"({NAMES}(?:\s*,\s*{NAMES})*)[ \t]*(?::[ \t]*(.*))?$")
FIELD = re.compile(r":(\w+)(?:[ \t]+([^:]*?))?[ \t]*:(?=\s|$)(.*)")
TAG = re.compile(r"[@\\](\w+)(?:\[[\w, ]*\])?[ \t]*(.*)")
PARAM_NAME = re.compile(
    r"(?:\{(?P<type>(?:[^{}]|\{[^{}]*\})*)\}[ \t]*)?(?P<name>\[?[\w$.<>]+)(?P<rest>.*)"
)
XML_ENTRY = re.compile(r'<(param|typeparam|returns|exception)\b(?: (?:name|cref)="([^"]*)")?')
MARKER = re.compile(r"[ \t]*(?:/\*[*!]+<?|\*(?!/)|///?[/!]?<?|#(?!!))[ \t]?")


@dataclass(frozen=True, slots=True)
class Entry:
    """One documented thing: its rows (half-open), its text, and the column of its name."""

    kind: Kind
    name: str
    type: str
    text: str
    row: int
    end: int
    column: int = -1


@dataclass(frozen=True, slots=True)
class Written:
    """What a docstring documents. `style` is "" when it has no structure.

    `sections` are header row and end by kind; `loose` are kinds whose section has text that is no
    entry, so that nothing follows from what is missing there; `broken` are rows with what is wrong.
    """

    style: str = ""
    entries: tuple[Entry, ...] = ()
    sections: tuple[tuple[Kind, int, int], ...] = ()
    loose: frozenset[Kind] = frozenset()
    broken: tuple[tuple[int, str], ...] = ()

    def of(self, kind: Kind) -> list[Entry]:
        """Entries of a kind, in order."""
        return [e for e in self.entries if e.kind == kind]

    def has(self, kind: Kind) -> bool:
        """Whether there is an entry or a section of a kind."""
        return any(e.kind == kind for e in self.entries) or any(s[0] == kind for s in self.sections)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a docstring without its marks; `offset` is where `text` begins in the source."""

    offset: int
    text: str

    @property
    def indent(self) -> int:
        """Blanks before the text, tabs expanded."""
        expanded = self.text.expandtabs(8)
        return len(expanded) - len(expanded.lstrip())

    @property
    def bare(self) -> str:
        """The text without blanks around."""
        return self.text.strip()


def read(text: str, language: str) -> Written:
    """What the docstring or comment with this source text documents."""
    if language == "python":
        return read_python(python_rows(text))
    rows = comment_rows(text)
    if language == "csharp":
        return Written("xmldoc", tuple(xml_entries(rows)))
    if language == "rust":
        return read_rust(rows)
    entries = tuple(tag_entries(rows))
    return Written("tags" if entries else "", entries)


def python_rows(text: str) -> list[Row]:
    """Lines of a string literal, the quotes left out."""
    start = re.match(r"[rRuU]?(\"\"\"|'''|\"|')", text)
    width = len(start.group(1)) if start else 0
    head = start.end() if start else 0
    lines = text[: len(text) - width].split("\n")
    return [Row(head, lines[0][head:]), *(Row(0, line) for line in lines[1:])]


def comment_rows(text: str) -> list[Row]:
    """Lines of a comment, the marks left out."""
    rows = []
    for line in text.split("\n"):
        mark = MARKER.match(line)
        offset = mark.end() if mark else len(line) - len(line.lstrip())
        rows.append(Row(offset, re.sub(r"[ \t]*\*+/[ \t]*$", "", line[offset:])))
    return rows


def read_python(rows: Sequence[Row]) -> Written:
    """The style with the most structure wins; two of them in one docstring are a fault."""
    found = [reader(rows) for reader in (google, numpy, sphinx)]
    with_structure = [w for w in found if w.entries or w.sections or w.broken]
    if not with_structure:
        return Written()
    best = max(with_structure, key=lambda w: (len(w.entries), len(w.sections)))
    others = [w for w in with_structure if w is not best and w.entries]
    mixed = [(w.entries[0].row, f"{w.style} style in a {best.style} docstring") for w in others]
    entries = (*best.entries, *(e for w in others for e in w.entries))
    return replace(best, entries=entries, broken=(*best.broken, *mixed))


def google(rows: Sequence[Row]) -> Written:
    """`Args:` with indented entries."""
    entries: list[Entry] = []
    sections: list[tuple[Kind, int, int]] = []
    loose: set[Kind] = set()
    broken: list[tuple[int, str]] = []
    for at, row in enumerate(rows):
        title = row.bare.rstrip(":").lower()
        kind = SECTIONS.get(title)
        if kind is None or at == 0:
            continue
        end = section_end(rows, at)
        if not row.bare.endswith(":"):
            if end > at + 1 and kind in ("parameter", "raises") and all_entries(rows, at + 1, end):
                broken.append((at, f"`{row.bare}` has no colon"))
            continue
        if end == at + 1:
            continue
        sections.append((kind, at, end))
        if kind in ("returns", "yields"):
            entries.append(google_result(rows, kind, at + 1, end))
            continue
        listed = list(google_entries(rows, kind, at + 1, end))
        entries += [e for e in listed if e.name]
        loose |= {kind} if any(not e.name for e in listed) else set()
    return Written("google", tuple(entries), tuple(sections), frozenset(loose), tuple(broken))


def section_end(rows: Sequence[Row], at: int) -> int:
    """Row behind the last one that is indented deeper than the header at `at`."""
    end, last = at + 1, at + 1
    while end < len(rows) and (not rows[end].bare or rows[end].indent > rows[at].indent):
        end += 1
        if rows[end - 1].bare:
            last = end
    return last


def google_entries(rows: Sequence[Row], kind: Kind, start: int, end: int) -> Iterator[Entry]:
    """Entries of a section; one without a name for text that is no entry."""
    filled = [r for r in range(start, end) if rows[r].bare]
    starts = [r for r in filled if rows[r].indent == rows[filled[0]].indent]
    for at, stop in spans(starts, end):
        found = GOOGLE_ENTRY.match(rows[at].bare)
        body = joined(rows, at + 1, stop)
        if found is None and kind == "raises" and re.fullmatch(r"[\w.]+", rows[at].bare):
            found = GOOGLE_ENTRY.match(rows[at].bare + ":")
        if found is None:
            yield Entry(kind, "", "", body, at, stop)
            continue
        text = f"{found.group(3).strip()} {body}".strip()
        yield from split_names(rows[at], Entry(
            kind, found.group(1), found.group(2) or "", text, at, trimmed(rows, at, stop)
        ))  # fmt: skip


def google_result(rows: Sequence[Row], kind: Kind, start: int, end: int) -> Entry:
    """The one entry of a `Returns:` section."""
    found = re.match(r"([\w.\[\], |\"']+?):(?:\s|$)", rows[start].bare)
    type_ = found.group(1) if found and looks_like_type(found.group(1)) else ""
    return Entry(kind, "", type_, joined(rows, start, end), start, end)


def looks_like_type(text: str) -> bool:
    """Whether a word before a colon is a type: no blanks outside of brackets but around `|`."""
    flat = re.sub(r"\[[^\]]*\]", "", text).replace(" | ", "|")
    return " " not in flat.strip()


def all_entries(rows: Sequence[Row], start: int, end: int) -> bool:
    """Whether every line of a would-be section is an entry."""
    return all(e.name for e in google_entries(rows, "parameter", start, end))


def numpy(rows: Sequence[Row]) -> Written:
    """Underlined headers."""
    headers = []
    broken: list[tuple[int, str]] = []
    for at in range(1, len(rows) - 1):
        title, line = rows[at].bare, rows[at + 1].bare
        known = title.lower() in SECTIONS or title.lower() in OTHER_SECTIONS
        if known and re.fullmatch(r"-{2,}|={3,}", line):
            headers.append(at)
            if len(line) != len(title) and title.lower() in SECTIONS:
                broken.append((at + 1, f"the line under `{title}` is not as long as it"))
    entries: list[Entry] = []
    sections: list[tuple[Kind, int, int]] = []
    loose: set[Kind] = set()
    for at, stop in spans(headers, len(rows)):
        kind = SECTIONS.get(rows[at].bare.lower())
        if kind is None:
            continue
        end = trimmed(rows, at, stop)
        sections.append((kind, at, end))
        listed = list(numpy_entries(rows, kind, at, end))
        entries += [e for e in listed if e.name or kind in ("returns", "yields")]
        loose |= {kind} if any(not e.name for e in listed) else set()
    return Written("numpy", tuple(entries), tuple(sections), frozenset(loose), tuple(broken))


def numpy_entries(rows: Sequence[Row], kind: Kind, header: int, end: int) -> Iterator[Entry]:
    """Entries of the section below a header; one without a name for text that is no entry."""
    level = rows[header].indent
    starts = [r for r in range(header + 2, end) if rows[r].bare and rows[r].indent <= level]
    for at, stop in spans(starts, end):
        body = joined(rows, at + 1, stop)
        if kind in ("returns", "yields"):
            yield Entry(kind, "", rows[at].bare.rpartition(" : ")[2], body, at, stop)
            return
        found = NUMPY_ENTRY.match(rows[at].bare)
        if found is None:
            yield Entry(kind, "", "", body, at, stop)
        else:
            entry = Entry(
                kind, found.group(1), found.group(2) or "", body, at, trimmed(rows, at, stop)
            )
            yield from split_names(rows[at], entry)


def sphinx(rows: Sequence[Row]) -> Written:
    """Field lists."""
    entries: list[Entry] = []
    types: dict[str, str] = {}
    broken: list[tuple[int, str]] = []
    for at, row in enumerate(rows):
        found = FIELD.match(row.bare)
        if found is None:
            if re.match(r":(param|raises|type) +\w+ *$", row.bare):
                broken.append((at, f"`{row.bare}` has no second colon"))
            continue
        word, given = found.group(1), (found.group(2) or "").strip()
        end = field_end(rows, at)
        if word in ("type", "vartype"):
            types[given] = found.group(3).strip()
        kind = FIELDS.get(word)
        if kind is None:
            continue
        *type_, name = given.split() if given else [""]
        text = f"{found.group(3).strip()} {joined(rows, at + 1, end)}".strip()
        clean = name.replace("\\", "").lstrip("*")
        column = row.offset + row.text.find(clean, row.text.find(word) + len(word)) if clean else -1
        entries.append(Entry(kind, clean, " ".join(type_), text, at, end, column))
    filled = tuple(replace(e, type=e.type or types.get(e.name, "")) for e in entries)
    return Written("sphinx", filled, (), frozenset(), tuple(broken))


def field_end(rows: Sequence[Row], at: int) -> int:
    """Row behind the text of a field."""
    end = at + 1
    while end < len(rows) and rows[end].bare and rows[end].indent > rows[at].indent:
        end += 1
    return end


def tag_entries(rows: Sequence[Row]) -> Iterator[Entry]:
    """Entries of JSDoc, Javadoc, phpDocumentor and Doxygen."""
    starts = [r for r, row in enumerate(rows) if re.match(r"[@\\][a-z]", row.bare)]
    for at, stop in spans(starts, len(rows)):
        found = TAG.match(rows[at].bare)
        kind = TAGS.get(found.group(1).lower()) if found else None
        if found is None or kind is None:
            continue
        rest, end = found.group(2), trimmed(rows, at, stop)
        body = joined(rows, at + 1, stop)
        if kind in ("returns", "yields"):
            given = re.match(r"\{([^}]*)\}", rest)
            yield Entry(kind, "", given.group(1) if given else "", f"{rest} {body}", at, end)
            continue
        named = PARAM_NAME.match(rest)
        if kind == "raises":
            name = re.match(r"(?:\{@link )?[{`]?([\w.:\\]+)", rest)
            yield Entry(kind, name.group(1) if name else "", "", f"{rest} {body}", at, end)
        elif named is not None:
            variable = re.search(r"\$(\w+)", rest)
            name_text = variable.group(1) if variable else named.group("name").lstrip("[$.")
            column = rows[at].offset + rows[at].text.find(name_text, len(found.group(1)) + 1)
            type_ = named.group("type") or ""
            yield Entry(kind, name_text, type_, f"{named.group('rest')} {body}", at, end, column)


def xml_entries(rows: Sequence[Row]) -> Iterator[Entry]:
    """Entries of C#."""
    kinds: dict[str, Kind] = {"param": "parameter", "returns": "returns", "exception": "raises"}
    for at, row in enumerate(rows):
        found = XML_ENTRY.match(row.bare)
        kind = kinds.get(found.group(1)) if found else None
        if found is not None and kind is not None:
            name = found.group(2) or ""
            column = row.offset + row.text.find(f'"{name}"') + 1
            end = at + 1
            closing = f"</{found.group(1)}>"
            while end < len(rows) and closing not in rows[end - 1].text:
                end += 1
            yield Entry(kind, name, "", row.bare, at, end, column)


def read_rust(rows: Sequence[Row]) -> Written:
    """`# Arguments` with a list; the other sections are prose."""
    entries = []
    inside = False
    for at, row in enumerate(rows):
        if row.bare.startswith("#"):
            inside = row.bare.strip("# ").lower() in ("arguments", "parameters")
        found = re.match(r"[*-] `(\w+)`", row.bare) if inside else None
        if found:
            column = row.offset + row.text.index("`") + 1
            entries.append(Entry("parameter", found.group(1), "", row.bare, at, at + 1, column))
    return Written("rustdoc" if entries else "", tuple(entries))


def split_names(row: Row, entry: Entry) -> Iterator[Entry]:
    """One entry a name for `a, b: Text`; stars and escapes go."""
    for part in entry.name.split(","):
        name = part.replace("\\", "").strip().lstrip("*")
        found = re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", row.text)
        column = row.offset + found.start() if found else -1
        yield replace(entry, name=name, column=column)


def spans(starts: Sequence[int], end: int) -> Iterator[tuple[int, int]]:
    """Each start with where the next one begins, the last with `end`."""
    return zip(starts, [*starts[1:], end][: len(starts)], strict=True)


def joined(rows: Sequence[Row], start: int, end: int) -> str:
    """The text of some rows on one line."""
    return " ".join(row.bare for row in rows[start:end] if row.bare)


def trimmed(rows: Sequence[Row], start: int, end: int) -> int:
    """The end without blank rows before it."""
    while end > start + 1 and not rows[end - 1].bare:
        end -= 1
    return end
