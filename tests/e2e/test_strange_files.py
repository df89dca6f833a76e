"""Files that editors open and nobody tests with, through the real process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qcoder.lsp_server.rpc_client import Client

pytestmark = pytest.mark.e2e

UNITS = {"utf-8": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}
SIZES = {"utf-8": 1, "utf-16": 2, "utf-32": 4}

LINES = {
    "emoji": 'smile = "😀👩‍👩‍👧"; x = ',
    "combining": 's = "e\u0301a\u0308o\u0302"; x = ',
    "wide": "名前 = '日本語'; x = ",
    "right_to_left": "# שלום עולם\nx = ",
    "tabs": "if True:\n\tx = ",
    "form_feed": "a = 1\n\f\nx = ",
    "line_separator": 's = "\u2028\u2029\x85\x0b\x1c"\nx = ',
    "carriage_returns": "a = 1\r\nb = 2\r\nx = ",
    "old_mac": "a = 1\rb = 2\rx = ",
    "mixed_ends": "a = 1\nb = 2\r\nc = 3\rx = ",
    "byte_order_mark": "\ufeffa = 1\nx = ",
    "no_break_space": "a\u00a0= 1\nx = ",
    "nul": "a = '\0'\nx = ",
    "long_line": "row = [" + "0, " * 3400 + "0]; x = ",
    "long_words": "w" * 10_000 + " = 1\nx = ",
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


def started(roots: list[Path], encoding: str = "utf-16", script: str = "compute(1)") -> Client:
    """A server for these folders whose client counts columns in an encoding."""
    client = Client(roots[0], {"QCODER_ENGINE": f"fake:{script}"})
    result = client.request(
        "initialize",
        {
            "processId": os.getpid(),
            "rootUri": None,
            "workspaceFolders": [{"uri": r.as_uri(), "name": r.name} for r in roots],
            "initializationOptions": {"completion": {"debounceMs": 0}},
            "capabilities": {
                "general": {"positionEncodings": [encoding]},
                "textDocument": {"inlineCompletion": {}},
            },
        },
    )
    assert result["capabilities"]["positionEncoding"] == encoding
    client.notify("initialized", {})
    client.wait_for(
        lambda m: m["method"] == "qcoder/status" and m["params"]["kind"] == "Normal", 60
    )
    return client


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Client]]:
    """One server for each encoding, for all files."""
    folder = tmp_path_factory.mktemp("strange")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CACHE", "CONFIG", "DATA"):
            patch.setenv(f"XDG_{name}_HOME", str(folder / name.lower()))
        opened = {encoding: started([folder], encoding) for encoding in UNITS}
    yield opened
    for client in opened.values():
        client.__exit__(None, None, None)


def rows_of(text: str) -> list[str]:
    """Rows as the protocol counts them."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def units(text: str, encoding: str) -> int:
    """How long a text is for a client that counts in an encoding."""
    return len(text.encode(UNITS[encoding])) // SIZES[encoding]


def end_of(text: str, encoding: str) -> dict[str, int]:
    """The position at the end of a text."""
    rows = rows_of(text)
    return {"line": len(rows) - 1, "character": units(rows[-1], encoding)}


def items_at(client: Client, uri: str, position: dict[str, int]) -> Any:
    answer = client.request(
        "textDocument/inlineCompletion",
        {"textDocument": {"uri": uri}, "position": position, "context": {"triggerKind": 2}},
    )
    return answer and answer["items"]


def insert(client: Client, uri: str, version: int, at: dict[str, int], text: str) -> None:
    edit = {"range": {"start": at, "end": at}, "text": text}
    document = {"uri": uri, "version": version}
    client.notify("textDocument/didChange", {"textDocument": document, "contentChanges": [edit]})


@pytest.mark.parametrize("encoding", UNITS)
@pytest.mark.parametrize("name", LINES)
def test_suggestions_and_edits_land_where_the_cursor_is(
    clients: dict[str, Client], name: str, encoding: str
) -> None:
    client, text = clients[encoding], LINES[name]
    uri = client.open(client.root / f"{name}.py", text + "\n")
    at = end_of(text, encoding)
    (item,) = items_at(client, uri, at)
    assert item["insertText"] == "compute(1)"
    assert item["range"] == {"start": at, "end": at}
    insert(client, uri, 2, at, "compute(")
    later = end_of(text + "compute(", encoding)
    (item,) = items_at(client, uri, later)
    assert item["insertText"] in ("1)", "compute(1)")
    assert item["range"]["start"] == later


def test_a_file_of_a_hundred_thousand_lines_is_served(root: Path) -> None:
    body = "".join(f"def function_{n}(value):\n    return value + {n}\n" for n in range(50_000))
    text = body + "x = "
    with started([root]) as client:
        uri = client.open(root / "huge.py", text + "\n")
        at = end_of(text, "utf-16")
        assert at["line"] == 100_000
        version = 1
        for key in "comp":
            version += 1
            insert(client, uri, version, at, key)
            at = {"line": at["line"], "character": at["character"] + 1}
        (item,) = items_at(client, uri, at)
        assert item["range"]["start"] == at
        middle = {"line": 50_000, "character": 0}
        insert(client, uri, version + 1, middle, "y = \n")
        assert items_at(client, uri, {"line": 50_000, "character": 4})
        assert client.request("qcoder/ping", None) is None


def test_a_buffer_that_was_never_saved_is_completed(root: Path) -> None:
    with started([root]) as client:
        item = {
            "uri": "untitled:Untitled-1",
            "languageId": "python",
            "version": 1,
            "text": "x = \n",
        }
        client.notify("textDocument/didOpen", {"textDocument": item})
        assert items_at(client, "untitled:Untitled-1", {"line": 0, "character": 4})


def test_folders_come_and_go_and_files_move_between_them(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (root / "lib.py").write_text("def from_the_first(): ...\n")
    (other / "lib.py").write_text("def from_the_second(): ...\n")
    with started([root, other]) as client:
        for folder in (root, other):
            uri = client.open(folder / "new.py", "x = \n")
            assert items_at(client, uri, {"line": 0, "character": 4})
        moved = root / "moved.py"
        (other / "lib.py").rename(moved)
        files = [{"oldUri": (other / "lib.py").as_uri(), "newUri": moved.as_uri()}]
        client.notify("workspace/didRenameFiles", {"files": files})
        uri = client.open(moved)
        insert(client, uri, 2, {"line": 1, "character": 0}, "y = ")
        assert items_at(client, uri, {"line": 1, "character": 4})
        event = {"added": [], "removed": [{"uri": other.as_uri(), "name": "other"}]}
        client.notify("workspace/didChangeWorkspaceFolders", {"event": event})
        uri = client.open(other / "late.py", "z = \n")
        assert items_at(client, uri, {"line": 0, "character": 4})
