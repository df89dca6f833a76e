"""Tool calls in answers: both forms, raw values typed by schema, nothing guessed."""

from typing import Any

import pytest

from qcoder.model.tool_calls import ToolCall, parse_tool_calls

PROPERTIES = {
    "path": {"type": "string"},
    "line": {"type": "integer"},
    "ratio": {"type": "number"},
    "deep": {"type": "boolean"},
    "names": {"type": "array"},
    "options": {"type": "object"},
    "limit": {"type": ["integer", "null"]},
}
TOOLS = [
    {"type": "function", "function": {"name": "edit", "parameters": {"properties": PROPERTIES}}},
    {"name": "bare", "parameters": {"properties": PROPERTIES}},
]


def written(name: str = "edit", **values: str) -> str:
    """A call as Qwen3-Coder writes it."""
    inner = "".join(f"<parameter={k}>\n{v}\n</parameter>\n" for k, v in values.items())
    return f"<tool_call>\n<function={name}>\n{inner}</function>\n</tool_call>"


def check(text: str, content: str, *calls: tuple[str, dict[str, Any]]) -> None:
    expected = tuple(ToolCall(name, arguments) for name, arguments in calls)
    assert parse_tool_calls(text, TOOLS) == (content, expected)


@pytest.mark.parametrize(
    ("key", "raw", "value"),
    [
        ("path", "17", "17"),
        ("path", " a b\n\n", " a b\n\n"),
        ("path", "", ""),
        ("line", "17", 17),
        ("line", "1.5", "1.5"),
        ("line", "many", "many"),
        ("ratio", "2", 2),
        ("ratio", "0.25", 0.25),
        ("deep", "true", True),
        ("deep", "False", False),
        ("deep", "1", "1"),
        ("names", '["a", "b"]', ["a", "b"]),
        ("options", '{"x": {"y": null}}', {"x": {"y": None}}),
        ("limit", "null", None),
        ("limit", "3", 3),
        ("unknown", "17", "17"),
    ],
)
def test_a_value_has_the_type_of_its_schema(key: str, raw: str, value: Any) -> None:
    for name in ("edit", "bare"):
        check(written(name, **{key: raw}), "", (name, {key: value}))


@pytest.mark.parametrize(
    "code",
    [
        "def f():\n    return '</parameter>'\n",
        "<parameter=x> </parameter> not the end",
        "a </function> b",
        "\n\n  indented\n",
        "<tool_call>",
        '{"name": "x"}',
        "line\r\nline",
    ],
)
def test_code_in_a_value_survives(code: str) -> None:
    check(written(path=code, line="3"), "", ("edit", {"path": code, "line": 3}))


def test_text_around_calls_is_the_content() -> None:
    text = f"I edit.\n{written(line='1')}\n{written(line='2')}\nDone."
    check(text, "I edit.\n\n\nDone.", ("edit", {"line": 1}), ("edit", {"line": 2}))


def test_missing_outer_tags_are_forgiven() -> None:
    bare = written(line="1").removeprefix("<tool_call>\n").removesuffix("\n</tool_call>")
    check(bare, "", ("edit", {"line": 1}))
    check(f"so: {bare}\n{bare}", "so:", ("edit", {"line": 1}), ("edit", {"line": 1}))
    check(written(), "", ("edit", {}))


def test_json_calls_are_read() -> None:
    inner = '{"name": "edit", "arguments": {"path": "a}", "line": 3, "x": {"y": "</tool_call"}}}'
    check(
        f"<tool_call>\n{inner}\n</tool_call>\n<tool_call>{inner}</tool_call>",
        "",
        *[("edit", {"path": "a}", "line": 3, "x": {"y": "</tool_call"}})] * 2,
    )
    check('<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', "", ("f", {"a": 1}))
    check('<tool_call>{"name": "f"}</tool_call>', "", ("f", {}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no call\n",
        "<tool_call>\n<function=edit>\n<parameter=path>\nunfinished",
        "<tool_call>{not json}</tool_call>",
        '<tool_call>{"arguments": {}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "f", "arguments": "x"}</tool_call>',
        '<tool_call>["f"]</tool_call>',
    ],
)
def test_what_is_no_call_stays_text(text: str) -> None:
    check(text, text)
