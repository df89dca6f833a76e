from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="function")

UNAWAITED = "async def save(): ...\nasync def f():\n    é = 1; save()\n"


async def actions(editor: Any, uri: str, line: int, **context: Any) -> list[Any]:
    place = {"line": line, "character": 0}
    params = {
        "textDocument": {"uri": uri},
        "range": {"start": place, "end": place},
        "context": {"diagnostics": [], **context},
    }
    found = await editor.ask("textDocument/codeAction", params)
    return [a for a in found or [] if a["kind"] == "quickfix"]


def applied(text: str, edit: Any) -> str:
    lines = text.split("\n")
    start, end = edit["range"]["start"], edit["range"]["end"]
    line = lines[start["line"]]
    assert start["line"] == end["line"]
    lines[start["line"]] = line[: start["character"]] + edit["newText"] + line[end["character"] :]
    return "\n".join(lines)


async def test_a_finding_can_be_mended_excused_and_explained(editor: Any, tmp_path: Path) -> None:
    await editor.start(tmp_path)
    uri = editor.open(tmp_path / "a.py", UNAWAITED)
    assert await actions(editor, uri, 0) == []
    fix, ignore, explain = await actions(editor, uri, 2)
    assert fix["isPreferred"]
    assert fix["diagnostics"][0]["code"] == "unawaited-coroutine"
    mended = applied(UNAWAITED, fix["edit"]["changes"][uri][0])
    assert mended == UNAWAITED.replace("; save()", "; await save()")
    excused = applied(UNAWAITED, ignore["edit"]["changes"][uri][0])
    assert excused.endswith("save()  # qcoder: ignore[unawaited-coroutine]\n")
    editor.change(uri, excused)
    assert await actions(editor, uri, 2) == []
    await editor.ask("workspace/executeCommand", explain["command"])
    shown = await editor.note(lambda m: m["method"] == "window/showMessage")
    assert shown["params"]["message"].startswith("unawaited-coroutine: a coroutine is called")


@pytest.mark.parametrize(
    ("language", "name", "text", "expected"),
    [
        (
            "python",
            "a.py",
            "x = a and a  # qcoder: ignore[none-used]\n",
            "x = a and a  # qcoder: ignore[none-used, same-operands]\n",
        ),
        (
            "go",
            "a.go",
            "package a\nfunc f(x []int) int { return x[len(x)] }\n",
            "package a\nfunc f(x []int) int { return x[len(x)] }"
            "  // qcoder: ignore[go-past-the-end]\n",
        ),
    ],
)
async def test_the_excuse_is_a_comment_of_the_language(
    editor: Any, tmp_path: Path, language: str, name: str, text: str, expected: str
) -> None:
    await editor.start(tmp_path)
    uri = editor.open(tmp_path / name, text, language)
    offered = await actions(editor, uri, text.count("\n") - 1)
    (ignore,) = [
        a for a in offered if a["title"].startswith("Ignore") and "unused" not in a["title"]
    ]
    assert applied(text, ignore["edit"]["changes"][uri][0]) == expected


MARK = "qcoder: ignore[same-operands]"


@pytest.mark.parametrize(
    ("language", "name", "text", "line", "expected"),
    [
        ("python", "a.py", "if x:\n  y = a and a \\\n    or b\n", 1, f"  # {MARK}\n  y = a and a"),
        ("python", "a.py", "y = b \\\n  or (a and a) \\\n  or c\n", 1, None),
        ("python", "a.py", "y = f(a and a, '''\nz''')\n", 0, f"# {MARK}\ny = f("),
        ("python", "a.py", "y = f'''\n{a and a}\n'''\n", 1, None),
        (
            "typescript",
            "a.ts",
            "const y = `${a[a.length]}\n`;\n",
            0,
            "// qcoder: ignore[js-past-the-end]\nconst y",
        ),
        ("typescript", "a.ts", "const y = `\n${a[a.length]}\n`;\n", 1, None),
        (
            "typescriptreact",
            "a.tsx",
            "const y = <div>\n  {a[a.length]}\n</div>;\n",
            1,
            None,
        ),
    ],
)
async def test_the_excuse_stands_where_a_comment_may(
    editor: Any, tmp_path: Path, language: str, name: str, text: str, line: int, expected: str
) -> None:
    await editor.start(tmp_path)
    uri = editor.open(tmp_path / name, text, language)
    offered = await actions(editor, uri, line)
    assert any("past-the-end" in a["title"] or "same-operands" in a["title"] for a in offered)
    ignoring = [a for a in offered if a["title"].startswith("Ignore")]
    assert bool(ignoring) == (expected is not None)
    for action in ignoring:
        excused = applied(text, action["edit"]["changes"][uri][0])
        assert expected in excused
        editor.change(uri, excused)
        assert await actions(editor, uri, line + 1) == []


async def test_other_kinds_and_a_review_that_is_off_offer_nothing(
    editor: Any, tmp_path: Path
) -> None:
    await editor.start(tmp_path)
    uri = editor.open(tmp_path / "a.py", UNAWAITED)
    assert await actions(editor, uri, 2, only=["refactor"]) == []
    assert await actions(editor, uri, 2, only=["quickfix"]) != []
    off = {"qcoder": {"review": {"enabled": False}}}
    editor.tell("workspace/didChangeConfiguration", {"settings": off})
    await editor.until(lambda: not editor.server.session.settings.review.enabled)
    assert await actions(editor, uri, 2) == []


async def test_an_unknown_rule_is_explained_by_silence(editor: Any, tmp_path: Path) -> None:
    await editor.start(tmp_path)
    command = {"command": "qcoder.explainRule", "arguments": ["no-such-rule"]}
    assert await editor.ask("workspace/executeCommand", command) is None
    assert [n for n in editor.notes if n["method"] == "window/showMessage"] == []
