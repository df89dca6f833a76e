"""The prose of a docstring from a model: sentence by sentence in place, or all by asking a chat model.

Every sentence replaces a plain one only when `docstring_judgement.accepted` lets it through.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from qcoder.context.pack import pack
from qcoder.lsp_server.asking import Asked, answer, chat_template
from qcoder.lsp_server.completion import budget_tokens
from qcoder.lsp_server.docstring_judgement import MAX_DESCRIPTION, accepted, stems_of
from qcoder.lsp_server.docstring_shape import Shape, split_at
from qcoder.lsp_server.docstring_style import Convention, Prose
from qcoder.lsp_server.docstring_tags import insertion, rendered
from qcoder.lsp_server.docstring_words import words_of
from qcoder.lsp_server.prompts import fim_prompt
from qcoder.lsp_server.snapshot import Snapshot
from qcoder.lsp_server.writing import collect
from qcoder.model.chat import ChatTemplate, Message
from qcoder.model.engine import Engine
from qcoder.model.request import (
    CancelToken,
    GenerationRequest,
    Priority,
    SamplingParams,
    StopRules,
)
from qcoder.model.temperature import temperature_for

SLOT = "\0"
SLOT_TOKENS = 28
MAX_SLOTS = 10
"""Sentences asked of the model for one docstring; the rest keep their plain form."""

MIN_CONFIDENCE = 0.3
MAX_CODE_CHARACTERS = 8000
SUMMARY_ONLY = frozenset({"plain", "godoc", "rustdoc"})

INSTRUCTION = (
    "You document code. For each item in the list, write one line `item: sentence`. A sentence is "
    "short, plain English and says only what the code shows: no guesses, no code, no markup."
)


@dataclass(frozen=True, slots=True)
class Slot:
    """One sentence of a docstring: its label, what it describes, its longest length, how to set it."""

    label: str
    name: str
    limit: int
    put: Callable[[Prose, str], Prose]


def written(
    snapshot: Snapshot,
    shape: Shape,
    prose: Prose,
    convention: Convention,
    engine: Engine,
    cancel: CancelToken,
) -> tuple[Prose, int]:
    """The prose with the model's sentences in it, and how many of them were good enough."""
    known = set(re.findall(r"[A-Za-z_]\w*", snapshot.document.text))
    slots = list(slots_of(shape, convention))
    # A small model has a word to say of the whole at best; names and types know more of the parts.
    slots = slots[:1] if engine.info.is_default else slots[:MAX_SLOTS]
    said_by_code = stems_of(source_of(snapshot, shape)) if engine.info.is_default else None
    template = chat_template(engine)
    answers = asked(snapshot, shape, slots, engine, template, cancel) if template else {}
    count = 0
    for slot in slots:
        if cancel.cancelled:
            break
        if template is not None:
            text = answers.get(slot.label, "")
        else:
            unfinished = rendered(
                shape, slot.put(prose, SLOT), convention, snapshot.document.language
            )
            text = filled_in(snapshot, unfinished, shape, engine, cancel)
        sentence = accepted(text, slot.name, known, slot.limit, said_by_code)
        if sentence is not None and sentence not in said(prose):
            prose = slot.put(prose, sentence)
            count += 1
    return prose, count


def said(prose: Prose) -> set[str]:
    """The sentences that a docstring has already: a copy of one is about something else."""
    return {prose.summary, prose.returns, *prose.parameters.values(), *prose.attributes.values()}


def slots_of(shape: Shape, convention: Convention) -> Iterator[Slot]:
    """The sentences of a docstring that a model may write."""
    width = convention.width - len(shape.place.indent) - 6
    if shape.kind == "module":
        return
    yield Slot("summary", shape.name, width, lambda p, s: replace(p, summary=s))
    if convention.style in SUMMARY_ONLY:
        return
    for parameter in shape.parameters:
        if not parameter.stars:
            yield Slot(
                parameter.name, parameter.name, MAX_DESCRIPTION, put_parameter(parameter.name)
            )
    if shape.gives_value or shape.yields:
        name = " ".join(words_of(shape.name))
        yield Slot("returns", name, MAX_DESCRIPTION, lambda p, s: replace(p, returns=s))


def put_parameter(name: str) -> Callable[[Prose, str], Prose]:
    """How to set the sentence of a parameter."""
    return lambda prose, text: replace(prose, parameters={**prose.parameters, name: text})


def source_of(snapshot: Snapshot, shape: Shape) -> str:
    """The text of a definition."""
    return "\n".join(snapshot.document.text.split("\n")[shape.span[0] : shape.span[1]])


def filled_in(
    snapshot: Snapshot, docstring: str, shape: Shape, engine: Engine, cancel: CancelToken
) -> str:
    """What the model writes at the slot of a half-finished docstring; "" when it is not sure."""
    if docstring.count(SLOT) != 1:
        return ""
    before, after = split_at(snapshot.document.text, shape.place.line, shape.place.column)
    head, tail = insertion(shape, docstring).split(SLOT)
    head, tail = before + head, tail + after
    document = replace(snapshot.document, text=head + tail)
    packed = pack(
        snapshot.index,
        document,
        snapshot.path,
        head.count("\n"),
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
            cancel=cancel,
            copy_tables=snapshot.copy_tables,
        ),
        MIN_CONFIDENCE,
    )
    return generated.text if generated.confidence >= MIN_CONFIDENCE else ""


def asked(
    snapshot: Snapshot,
    shape: Shape,
    slots: list[Slot],
    engine: Engine,
    template: ChatTemplate,
    cancel: CancelToken,
) -> dict[str, str]:
    """A chat model's sentences by label; what it does not answer is missing."""
    code = source_of(snapshot, shape)[:MAX_CODE_CHARACTERS]
    items = "\n".join(slot.label for slot in slots)
    question = f"```{snapshot.document.language}\n{code}\n```\n\nItems:\n{items}"
    messages = [Message("system", INSTRUCTION), Message("user", question)]
    to = Asked(engine, template, "docstring", Priority.EDIT, cancel)
    said = answer(to, messages, SLOT_TOKENS * (len(slots) + 1))
    return answers_of(said.text, {slot.label for slot in slots}) if said is not None else {}


def answers_of(text: str, labels: set[str]) -> dict[str, str]:
    """Sentences by label from lines such as `path: Where the file lies.`"""
    found: dict[str, str] = {}
    for line in text.splitlines():
        label, colon, sentence = line.strip().lstrip("-* ").partition(":")
        label = label.strip("`* ")
        if colon and label in labels:
            found.setdefault(label, sentence.strip().strip("*").strip())
    return found
