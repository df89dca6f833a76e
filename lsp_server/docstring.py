"""Docstrings: the structure from the syntax tree, the prose from the model where it is good.

`docstring_edits` builds for every wanted definition a docstring that is right by construction
(parameters, types, defaults, result, exceptions) with plain sentences from the names. Then the
model may write each sentence anew; one that is not clean prose about this code is thrown away.
Documented definitions are left alone, unless `update` asks to bring them in line with the code: then
entries come, go and change their names, and the prose stays. An edit never touches code and never
adds a syntax error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from qcoder.context.segments import Document
from qcoder.lsp_server.docstring_comment import comment_shapes
from qcoder.lsp_server.docstring_convention import convention_for, detect_style
from qcoder.lsp_server.docstring_drift import Drift, drift_of
from qcoder.lsp_server.docstring_habits import descriptions, with_habits
from qcoder.lsp_server.docstring_merge import merged
from qcoder.lsp_server.docstring_model import written
from qcoder.lsp_server.docstring_prose import fallback
from qcoder.lsp_server.docstring_python import python_shapes
from qcoder.lsp_server.docstring_shape import Shape
from qcoder.lsp_server.docstring_style import Convention, Prose
from qcoder.lsp_server.docstring_tags import content, insertion, rendered
from qcoder.lsp_server.docstring_words import third_person
from qcoder.lsp_server.edited import applied, that_compile
from qcoder.lsp_server.postprocess import errors
from qcoder.lsp_server.snapshot import DocstringEdit, Snapshot, TextEdit, is_refused
from qcoder.model.engine import Engine
from qcoder.model.request import CancelToken


def docstring_edits(
    snapshot: Snapshot,
    engine: Engine | None,
    symbol: str | None = None,
    line: int | None = None,
    style: str = "auto",
    cancel: CancelToken | None = None,
    update: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[DocstringEdit]:
    """Edits for a symbol, for the definition around a 0-based line, or for all public ones.

    `engine` None writes the plain sentences. With `update`, docstrings that are there are brought in
    line with the code; one that was asked for by name or line also gets the sections it has not.
    `progress` is told how many definitions are done of how many.
    Positions of all edits belong to the snapshot's text. Raises ValueError for a style that the
    language does not have.
    """
    if is_refused(snapshot):
        return []
    document, cancel = snapshot.document, cancel or CancelToken()
    shapes = shapes_of(document, snapshot.path)
    convention = chosen_convention(snapshot, shapes, style)
    habits = descriptions(shapes, document.language)
    edits: list[DocstringEdit] = []
    chosen = wanted(shapes, symbol, line, update)
    for done, shape in enumerate(chosen):
        if cancel.cancelled:
            break
        progress(done, len(chosen))
        prose, slots = with_habits(fallback(shape), habits), 0
        if shape.documented:
            whole = symbol is not None or line is not None
            found = updated(snapshot, shape, prose, convention, whole) if update else None
            edits += [found] if found is not None else []
            continue
        if engine is not None:
            prose, slots = written(snapshot, shape, prose, convention, engine, cancel)
        edits.append(inserted(snapshot, shape, prose, convention, slots))
    return sound(document, one_a_place(edits))


def one_a_place(edits: list[DocstringEdit]) -> list[DocstringEdit]:
    """The edits without those that begin where an earlier one does: `f = ..., g = ...` on a line."""
    return list({(e.edit.start_line, e.edit.start_column): e for e in reversed(edits)}.values())[
        ::-1
    ]


def shapes_of(document: Document, path: str) -> list[Shape]:
    """Everything of a document that can have a docstring; empty for unknown languages."""
    if document.language == "python":
        where = PurePosixPath(path)
        package = where.stem == "__init__" and where.parent.name
        shapes = python_shapes(document.text, package or where.stem)
        # What a stub file declares is documented where it is written.
        return [replace(s, public=False) for s in shapes] if where.suffix == ".pyi" else shapes
    return comment_shapes(document.text, document.language)


def chosen_convention(snapshot: Snapshot, shapes: Sequence[Shape], style: str) -> Convention:
    """How to write: as asked, as the settings say, as the file or the project does."""
    wanted_style = style if style != "auto" else snapshot.settings.docstring.style
    document = snapshot.document
    folder = Path(snapshot.root, snapshot.path).parent if snapshot.root is not None else None
    return convention_for(document.language, document.text, shapes, wanted_style, folder)


def wanted(
    shapes: Sequence[Shape], symbol: str | None, line: int | None, documented: bool = False
) -> list[Shape]:
    """The shapes that were asked for: by name, around a line, or all that are public.

    `documented` adds those that are not public and have a docstring all the same.
    """
    if symbol is not None:
        exact = [s for s in shapes if s.symbol == symbol]
        return exact or [s for s in shapes if s.name == symbol and s.kind != "module"][:1]
    if line is not None:
        around = [s for s in shapes if s.kind != "module" and s.span[0] <= line < s.span[1]]
        return around[-1:]
    return [s for s in shapes if s.public or (documented and s.documented)]


def inserted(
    snapshot: Snapshot, shape: Shape, prose: Prose, convention: Convention, slots: int
) -> DocstringEdit:
    """The edit that gives an undocumented definition its docstring."""
    language = snapshot.document.language
    if language == "go":
        prose = replace(prose, summary=third_person(shape.name, prose.summary))
    text = insertion(shape, rendered(shape, prose, convention, language))
    place = shape.place
    return DocstringEdit(
        path=snapshot.path,
        symbol=shape.symbol,
        line=shape.line,
        style=convention.style,
        docstring="\n".join(content(shape, prose, convention, language)),
        slots_from_model=slots,
        edit=TextEdit(place.line, place.column, place.line, place.column, text),
    )


def updated(
    snapshot: Snapshot, shape: Shape, prose: Prose, convention: Convention, whole: bool
) -> DocstringEdit | None:
    """The edit that brings a docstring in line with its code; None when it is, or is no plain text."""
    there, language = shape.existing, snapshot.document.language
    if there is None:
        return None
    drifts = drift_of(shape, language)
    if language == "python":
        # The docstring's own style counts, whatever its neighbours are written in.
        own = detect_style([there.text])
        convention = replace(convention, style=own or convention.style)
    text = merged(shape, drifts, prose, convention, language, whole)
    if text is None:
        return None
    return DocstringEdit(
        path=snapshot.path,
        symbol=shape.symbol,
        line=shape.line,
        style=convention.style,
        docstring=text,
        slots_from_model=0,
        edit=TextEdit(there.line, there.column, there.end_line, there.end_column, text),
    )


def drifts_in(
    snapshot: Snapshot, symbol: str | None = None, line: int | None = None
) -> list[tuple[Shape, Drift]]:
    """Where docstrings and code disagree: of a symbol, around a 0-based line, or in the whole file."""
    if is_refused(snapshot):
        return []
    document = snapshot.document
    shapes = shapes_of(document, snapshot.path)
    chosen = wanted(shapes, symbol, line, documented=True)
    return [(shape, drift) for shape in chosen for drift in drift_of(shape, document.language)]


def sound(document: Document, edits: list[DocstringEdit]) -> list[DocstringEdit]:
    """The edits without those that the file would parse worse with."""
    text, language = document.text, document.language
    before = errors(text, language)
    if edits and errors(applied(text, [e.edit for e in edits]), language) > before:
        edits = [e for e in edits if errors(applied(text, [e.edit]), language) <= before]
    if language != "python":
        return edits
    # The interpreter is stricter about indents than the grammar.
    kept = that_compile(text, [e.edit for e in edits])
    return [e for e in edits if e.edit in kept]
