"""Over many real files: nothing but docstrings changes, and what was mended stays mended."""

import ast
import io
import random
import re
import sysconfig
import tokenize
from dataclasses import replace
from pathlib import Path

import pytest

from qcoder.context.segments import Document
from qcoder.lsp_server.docstring import docstring_edits, drifts_in, shapes_of
from qcoder.lsp_server.docstring_drift import drift_of
from qcoder.lsp_server.docstring_reading import Entry, read
from qcoder.lsp_server.docstring_shape import Shape
from qcoder.lsp_server.edited import applied
from qcoder.lsp_server.settings import Settings
from qcoder.lsp_server.snapshot import DocstringEdit, Snapshot

STDLIB = Path(sysconfig.get_paths()["stdlib"])
FOLDERS = ("asyncio", "email", "json", "unittest", "http", "xml/dom", "concurrent/futures", ".")
NOT_CODE = frozenset({tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT})
UNMENDED = frozenset({"broken-style"})


def sample() -> list[Path]:
    files = [p for folder in FOLDERS for p in sorted((STDLIB / folder).glob("*.py"))]
    small = [p for p in files if 500 < p.stat().st_size < 40_000]
    return random.Random(7).sample(small, 24)


def snapshot_of(source: str) -> Snapshot:
    return Snapshot(Document("file:///a.py", 1, "python", source), "a.py", None, None, Settings())


def code(source: str) -> tuple[str, list[tuple[int, str]]]:
    """The syntax tree and the tokens of a program, docstrings left out."""
    tree = ast.parse(source)
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node) is not None:
            found.add(node.body[0].lineno)
            node.body = node.body[1:] or [ast.Pass()]
    tokens = [
        (t.type, t.string)
        for t in tokenize.generate_tokens(io.StringIO(source).readline)
        if t.type not in NOT_CODE and not (t.type == tokenize.STRING and t.start[0] in found)
    ]
    return ast.dump(tree), tokens


def outside(source: str, edits: list[DocstringEdit]) -> str:
    """The text without the ranges that the edits replace."""
    return applied(source, [replace(e.edit, new_text="") for e in edits])


def everything(snapshot: Snapshot, style: str) -> list[DocstringEdit]:
    """New docstrings for all that is public, and every other one brought in line."""
    return docstring_edits(snapshot, None, style=style, update=True)


@pytest.mark.parametrize("path", sample(), ids=lambda p: p.stem)
def test_no_byte_and_no_token_of_code_changes(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    style = random.Random(path.stem).choice(["google", "numpy", "sphinx"])
    edits = everything(snapshot_of(source), style)
    new = applied(source, [e.edit for e in edits])
    assert code(new) == code(source)
    plain = [e for e in edits if (e.edit.start_line, e.edit.start_column) == (
        e.edit.end_line, e.edit.end_column)]  # fmt: skip
    if len(plain) == len(edits):
        assert outside(source, edits) == source
    again = snapshot_of(new)
    assert everything(again, style) == []
    assert {d.rule for _, d in drifts_in(again)} <= UNMENDED


@pytest.mark.parametrize("path", sample()[:6], ids=lambda p: p.stem)
def test_completing_a_docstring_by_name_keeps_its_prose(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    snapshot = snapshot_of(source)
    symbols = {e.symbol for e in everything(snapshot_of(source), "google")}
    for node in [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)][:12]:
        text = ast.get_docstring(node)
        if text is None or node.name in symbols:
            continue
        edits = docstring_edits(snapshot, None, line=node.lineno - 1, update=True)
        new = applied(source, [e.edit for e in edits])
        assert code(new) == code(source)
        assert set(re.findall(r"\w+", text)) <= set(re.findall(r"\w+", new))


def documented_parameters(snapshot: Snapshot) -> list[tuple[Shape, Entry]]:
    """Entries of functions whose docstring lists three or more parameters and agrees with the code."""
    found = []
    for shape in shapes_of(snapshot.document, snapshot.path):
        if shape.existing is None or shape.kind not in ("function", "method"):
            continue
        entries = read(shape.existing.text, "python").of("parameter")
        named = [e.name for e in entries]
        plain = all(not p.stars for p in shape.parameters) and not shape.decorated
        if not plain or len(named) < 3 or named != [p.name for p in shape.parameters]:
            continue
        if not drift_of(shape, "python"):
            found += [(shape, e) for e in entries]
    return found


def changed(source: str, shape: Shape, entry: Entry, name: str | None) -> str:
    """The source with another name in an entry, or without the entry."""
    assert shape.existing is not None
    lines = source.split("\n")
    row = shape.existing.line + entry.row
    if name is None:
        del lines[row : shape.existing.line + entry.end]
    else:
        head = lines[row][: entry.column]
        lines[row] = head + name + lines[row][entry.column + len(entry.name) :]
    return "\n".join(lines)


def updates(source: str, line: int) -> list[DocstringEdit]:
    """The edits for the whole file that begin below a line: those of the function there."""
    found = docstring_edits(snapshot_of(source), None, update=True)
    return [e for e in found if e.line == line and e.edit.start_line > line]


def test_a_broken_list_of_parameters_is_mended_exactly_there() -> None:
    package = Path(pytest.importorskip("huggingface_hub").__file__).parent
    checked = 0
    for path in sorted(package.glob("*.py"))[:20]:
        source = path.read_text(encoding="utf-8")
        if len(source) > 60_000:
            continue
        for shape, entry in documented_parameters(snapshot_of(source))[:6]:
            renamed = changed(source, shape, entry, "no_such_name")
            edits = updates(renamed, shape.line)
            assert applied(renamed, [e.edit for e in edits]) == source
            shorter = changed(source, shape, entry, None)
            edits = updates(shorter, shape.line)
            assert entry.name in "".join(e.edit.new_text for e in edits)
            assert code(applied(shorter, [e.edit for e in edits])) == code(source)
            checked += 1
    assert checked >= 10
