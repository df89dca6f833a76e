"""Docstrings: the structure from the syntax tree, the prose from the model where it is good.

`docstring_edits` builds for every wanted definition a docstring that is right by construction
(parameters, types, defaults, result, exceptions) with plain sentences from the names. Then the
model may write each sentence anew, by filling in the middle of the half-finished docstring; a
sentence that is not clean prose about this code is thrown away. An edit only inserts, never
changes code, and never adds a syntax error. Documented definitions are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from qcoder.context.pack import pack
from qcoder.context.parse import outline
from qcoder.context.privacy import exclude_spec, refused
from qcoder.context.segments import Document
from qcoder.lsp_server.completion import budget_tokens, collect
from qcoder.lsp_server.docstring_comment import COMMENT_STYLE, LINE_MARKS, comment_shapes
from qcoder.lsp_server.docstring_prose import MAX_SUMMARY, accepted, fallback, words_of
from qcoder.lsp_server.docstring_shape import Shape, python_shapes
from qcoder.lsp_server.docstring_style import (
    PYTHON_STYLES,
    STYLES,
    Prose,
    block_comment,
    detect_style,
    line_comment,
    quoted,
)
from qcoder.lsp_server.postprocess import errors
from qcoder.lsp_server.prompts import fim_prompt
from qcoder.lsp_server.snapshot import DocstringEdit, Snapshot, TextEdit
from qcoder.model.engine import Engine
from qcoder.model.request import CancelToken, GenerationRequest, Priority, SamplingParams, StopRules
from qcoder.model.temperature import temperature_for

SLOT = "\0"
SLOT_TOKENS = 28
MAX_SLOTS = 10
"""Sentences asked of the model for one docstring; the rest keep their plain form."""

MIN_CONFIDENCE = 0.3


def docstring_edits(
    snapshot: Snapshot,
    engine: Engine | None,
    symbol: str | None = None,
    line: int | None = None,
    style: str = "auto",
    cancel: CancelToken | None = None,
) -> list[DocstringEdit]:
    """Edits for a symbol, for the definition around a 0-based line, or for all public ones.

    `engine` None writes the plain sentences. Positions of all edits belong to the snapshot's text.
    Raises ValueError for a style that the language does not have.
    """
    exclude = exclude_spec(snapshot.settings.privacy.exclude)
    if refused(snapshot.path, None, exclude) is not None:
        return []
    document = snapshot.document
    chosen = choose_style(document, style if style != "auto" else snapshot.settings.docstring.style)
    shapes = shapes_of(document)
    edits = []
    for shape in wanted(shapes, symbol, line):
        if cancel is not None and cancel.cancelled:
            break
        prose, slots = fallback(shape), 0
        if engine is not None:
            prose, slots = written(snapshot, shape, prose, chosen, engine, cancel)
        edit = edit_of(snapshot, shape, prose, chosen, slots)
        if edit is not None:
            edits.append(edit)
    return edits


def shapes_of(document: Document) -> list[Shape]:
    """Everything of a document that can have a docstring; empty for unknown languages."""
    if document.language == "python":
        return python_shapes(document.text)
    return comment_shapes(document.text, document.language)


def choose_style(document: Document, style: str) -> str:
    """The style to write in; raises ValueError with the possible ones."""
    possible = (
        PYTHON_STYLES
        if document.language == "python"
        else (COMMENT_STYLE.get(document.language, "plain"),)
    )
    if style == "auto":
        if document.language != "python":
            return possible[0]
        found = [d.docstring for d in outline(document.text, "python") if d.docstring]
        return detect_style(found)
    if style not in possible:
        raise ValueError(
            f"style {style!r} does not fit {document.language}; use auto or {', '.join(possible)}"
        )
    return style


def wanted(shapes: list[Shape], symbol: str | None, line: int | None) -> list[Shape]:
    """The undocumented shapes that were asked for."""
    if symbol is not None:
        chosen = [s for s in shapes if symbol in (s.symbol, s.name)]
        exact = [s for s in chosen if s.symbol == symbol]
        chosen = exact or chosen[:1]
    elif line is not None:
        chosen = [s for s in shapes if s.span[0] <= line < s.span[1]][-1:]
    else:
        chosen = [s for s in shapes if s.public]
    return [s for s in chosen if not s.documented]


def rendered(shape: Shape, prose: Prose, style: str, language: str) -> str:
    """The docstring or comment as it goes into the file, from its first mark to its last."""
    lines = STYLES[style](shape, prose)
    indent = shape.place.indent
    if language == "python":
        return quoted(lines, indent)
    if language in LINE_MARKS:
        return line_comment(lines, indent, LINE_MARKS[language])
    if language == "csharp":
        return f"/// <summary>{lines[0]}</summary>"
    return block_comment(lines, indent)


def insertion(shape: Shape, docstring: str) -> str:
    """The inserted text: the docstring with the line breaks and blanks around it."""
    return shape.place.before + shape.place.indent + docstring + shape.place.after


def edit_of(
    snapshot: Snapshot, shape: Shape, prose: Prose, style: str, slots: int
) -> DocstringEdit | None:
    """The edit; None when the file would parse worse with it."""
    document = snapshot.document
    if document.language == "go":
        prose = replace(prose, summary=third_person(shape.name, prose.summary))
    text = insertion(shape, rendered(shape, prose, style, document.language))
    place = shape.place
    before, after = split_at(document.text, place.line, place.column)
    if errors(before + text + after, document.language) > errors(document.text, document.language):
        return None
    return DocstringEdit(
        path=snapshot.path,
        symbol=shape.symbol,
        line=shape.line,
        style=style,
        docstring="\n".join(STYLES[style](shape, prose)),
        slots_from_model=slots,
        edit=TextEdit(place.line, place.column, place.line, place.column, text),
    )


def split_at(text: str, line: int, column: int) -> tuple[str, str]:
    """The text before and behind a 0-based position."""
    at = 0
    for _ in range(line):
        at = text.index("\n", at) + 1
    return text[: at + column], text[at + column :]


def third_person(name: str, summary: str) -> str:
    """`Load the file.` as Go writes it: `LoadFile loads the file.`"""
    verb, _, rest = summary.rstrip(".").partition(" ")
    verb = verb.lower()
    if verb in ("a", "an", "the"):
        return f"{name} is {verb} {rest}."
    if verb.endswith("y") and verb[-2:-1] not in "aeiou":
        verb = verb[:-1] + "ies"
    else:
        verb += "es" if verb.endswith(("s", "sh", "ch", "x", "z", "o")) else "s"
    return f"{name} {verb} {rest}".rstrip() + "."


def written(
    snapshot: Snapshot,
    shape: Shape,
    prose: Prose,
    style: str,
    engine: Engine,
    cancel: CancelToken | None,
) -> tuple[Prose, int]:
    """The prose with the model's sentences in it, and how many of them were good enough."""
    known = set(re.findall(r"[A-Za-z_]\w*", snapshot.document.text))
    count = 0
    for name, limit, put in list(slots_of(shape, style))[:MAX_SLOTS]:
        if cancel is not None and cancel.cancelled:
            break
        text = fill(snapshot, rendered(shape, put(prose, SLOT), style, snapshot.document.language),
                    shape, engine, cancel)  # fmt: skip
        sentence = accepted(text, name, known, limit, anchored=engine.info.is_default)
        if sentence is not None:
            prose = put(prose, sentence)
            count += 1
    return prose, count


def slots_of(shape: Shape, style: str) -> Iterator[tuple[str, int, Callable[[Prose, str], Prose]]]:
    """The sentences of a docstring: what each describes, its longest length, how to set it."""
    yield shape.name, MAX_SUMMARY - len(shape.place.indent), lambda p, s: replace(p, summary=s)
    if style == "plain":
        return
    for parameter in shape.parameters:
        if not parameter.stars:
            name = parameter.name
            yield name, 100, lambda p, s, n=name: replace(p, parameters={**p.parameters, n: s})  # type: ignore[misc]
    if shape.gives_value or shape.yields:
        yield " ".join(words_of(shape.name)), 100, lambda p, s: replace(p, returns=s)


def fill(
    snapshot: Snapshot,
    docstring: str,
    shape: Shape,
    engine: Engine,
    cancel: CancelToken | None,
) -> str:
    """What the model writes at the slot of a half-finished docstring; "" when it is not sure."""
    before, after = split_at(snapshot.document.text, shape.place.line, shape.place.column)
    head, tail = insertion(shape, docstring).split(SLOT)
    head, tail = before + head, tail + after
    document = replace(snapshot.document, text=head + tail)
    line = head.count("\n")
    packed = pack(
        snapshot.index,
        document,
        snapshot.path,
        line,
        len(head) - (head.rfind("\n") + 1),
        budget_tokens(engine, snapshot.settings.completion.budget_tokens, SLOT_TOKENS),
        engine.tokenizer.count,
        snapshot.recent,
    )
    repository = snapshot.root.name if snapshot.root else ""
    generated = collect(
        engine,
        GenerationRequest(
            prompt=fim_prompt(packed, engine.tokenizer, engine.info.fim_order, repository),
            max_tokens=SLOT_TOKENS,
            sampling=SamplingParams(temperature=temperature_for("docstring")),
            stop=StopRules(engine.tokenizer.eos_ids, ("\n", '"""', "*/")),
            priority=Priority.EDIT,
            cancel=cancel or CancelToken(),
            copy_tables=snapshot.copy_tables,
        ),
        MIN_CONFIDENCE,
    )
    return generated.text if generated.confidence >= MIN_CONFIDENCE else ""
