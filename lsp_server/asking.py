"""Questions to models that follow instructions: whether one does, and its answer as text or as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcoder.lsp_server.writing import Generated, collect
from qcoder.model.chat import ChatTemplate, Message, chat_ids
from qcoder.model.engine import Engine
from qcoder.model.errors import ModelError
from qcoder.model.request import (
    CancelToken,
    GenerationRequest,
    Priority,
    Prompt,
    SamplingParams,
    StopRules,
)
from qcoder.model.temperature import Task, temperature_for

FENCE = re.compile(r"```[\w+#-]*\n(.*?)(?:\n```|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A model that can be asked, and how much its answers matter to whom."""

    engine: Engine
    template: ChatTemplate
    task: Task
    priority: Priority
    cancel: CancelToken


def chat_template(engine: Engine) -> ChatTemplate | None:
    """The template of a checkpoint that follows instructions; None for all others.

    Base models of the family carry a template too, so the name has to say what they are.
    """
    info = engine.info
    speaks = re.search(r"instruct|chat", f"{info.name} {Path(info.path).name}", re.IGNORECASE)
    follows = speaks or info.architecture in ("qwen3_moe", "qwen3_next")
    if info.is_default or info.is_remote or not follows or not info.path:
        return None
    try:
        return ChatTemplate.load(Path(info.path))
    except ModelError:
        return None


def answer(
    asked: Asked, messages: Sequence[Message], max_tokens: int, json_schema: str = ""
) -> Generated | None:
    """What the model says; None where its template or its context refuse the question."""
    engine = asked.engine
    try:
        ids = chat_ids(engine.tokenizer, asked.template, messages)
    except (ModelError, ValueError):
        return None
    if len(ids) + max_tokens > engine.info.max_context:
        return None
    request = GenerationRequest(
        prompt=Prompt(tuple(ids)),
        max_tokens=max_tokens,
        sampling=SamplingParams(temperature=temperature_for(asked.task)),
        stop=StopRules(engine.tokenizer.eos_ids),
        priority=asked.priority,
        cancel=asked.cancel,
        json_schema=json_schema,
    )
    return collect(engine, request)


def json_answer(
    asked: Asked, messages: Sequence[Message], max_tokens: int, schema: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The object that the model answers with; empty when a second try is no JSON either."""
    text = json.dumps(schema)
    for attempt in ((), (Message("user", "Answer with the JSON object alone."),)):
        if asked.cancel.cancelled:
            break
        said = answer(asked, (*messages, *attempt), max_tokens, text)
        if said is None:
            break
        found = object_in(said.text)
        if found is not None:
            return found
    return {}


def object_in(text: str) -> Mapping[str, Any] | None:
    """The JSON object in an answer, whatever stands around it; None without one."""
    start, end = text.find("{"), text.rfind("}")
    try:
        found = json.loads(text[start : end + 1]) if start >= 0 else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def code_in(text: str) -> str:
    """The first fenced block of an answer, or all of it without one."""
    found = FENCE.search(text)
    return found.group(1) if found else text.strip()
