"""Tool calls in generated text, in the two forms of the family.

Qwen3-Coder writes XML-like text whose values are raw, typed by the tool's schema:

    <tool_call>
    <function=NAME>
    <parameter=KEY>
    VALUE
    </parameter>
    </function>
    </tool_call>

Qwen2.5 and Qwen3 write `{"name": ..., "arguments": {...}}` between the same tags. A call that was cut short
or makes no sense stays text: nothing is guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# A model may leave the outer tags out. A value ends where the structure goes on, so that code which
# contains a closing tag survives.
CALL = re.compile(
    r"(?:<tool_call>\s*)?<function=(?P<name>[^>\n]+)>(?P<body>.*?)</function>"
    r"(?=\s*(?:</tool_call>|<tool_call>|<function=|$))(?:\s*</tool_call>)?"
    r"|<tool_call>\s*(?P<json>\{.*?\})\s*</tool_call>",
    re.DOTALL,
)
PARAMETER = re.compile(
    r"<parameter=(?P<key>[^>\n]+)>(?P<value>.*?)</parameter>(?=\s*(?:<parameter=|$))", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model wants called."""

    name: str
    arguments: Mapping[str, Any]


def parse_tool_calls(
    text: str, tools: Sequence[Mapping[str, Any]] = ()
) -> tuple[str, tuple[ToolCall, ...]]:
    """The text without the calls, and the calls in order.

    `tools` are definitions as the chat template gets them; values of unknown parameters are strings.
    """
    schemas = dict(map(_schema, tools))
    rest, calls, at = [], [], 0
    for found in CALL.finditer(text):
        if found["json"] is not None:
            call = _from_json(found["json"])
        else:
            name = found["name"].strip()
            call = ToolCall(name, _arguments(found["body"], schemas.get(name, {})))
        if call is not None:
            rest.append(text[at : found.start()])
            calls.append(call)
            at = found.end()
    rest.append(text[at:])
    return ("".join(rest).strip() if calls else text), tuple(calls)


def _schema(tool: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Name and properties of a tool, which may be wrapped in `{"type": "function", ...}`."""
    function = tool.get("function", tool)
    return str(function.get("name")), (function.get("parameters") or {}).get("properties") or {}


def _from_json(text: str) -> ToolCall | None:
    try:
        data = json.loads(text)
    except ValueError:
        return None
    if not isinstance(data, dict) or not isinstance(data.get("name"), str):
        return None
    arguments = data.get("arguments", {})
    if isinstance(arguments, str):  # some write JSON inside JSON
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return None
    return ToolCall(data["name"], arguments) if isinstance(arguments, dict) else None


def _arguments(body: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    out = {}
    for found in PARAMETER.finditer(body.rstrip()):
        key, value = found["key"].strip(), found["value"]
        # One line break belongs to the form on either side; others are the value's own.
        value = value.removeprefix("\n").removesuffix("\n")
        out[key] = _typed(value, properties.get(key))
    return out


def _typed(value: str, schema: Any) -> Any:
    """A raw value by its JSON schema; a string where it is no value of that type."""
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    kinds = {kind} if isinstance(kind, str) else set(kind or ())
    if not kinds or kinds == {"string"}:
        return value
    try:
        found = json.loads(value.strip().lower() if kinds & {"boolean"} else value)
    except ValueError:
        return value
    return found if _json_type(found) & kinds else value


def _json_type(value: Any) -> set[str]:
    """The names of JSON schema for the type of a decoded value."""
    if isinstance(value, bool):
        return {"boolean"}
    if isinstance(value, int):
        return {"integer", "number"}
    names = {float: "number", str: "string", list: "array", dict: "object", type(None): "null"}
    return {names[type(value)]}
