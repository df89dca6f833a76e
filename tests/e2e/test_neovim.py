"""A real Neovim, typed into like a user's, against a real server with a scripted engine.

Run by `make test-nvim`. `QCODER_NVIM` names another binary than the `nvim` on PATH.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

PLUGIN = Path(__file__).resolve().parents[2] / "editors" / "nvim"
SERVER = Path(sys.executable).with_name("qcoder-lsp")
TIMEOUT_S = 60
SCRIPT = "fake:add(item, amount)"
SOURCE = '''"""Shelves."""


def load(path):
    handle = open(path)
    return handle.read()


def restock(shelf, item, amount):
'''

GHOST = """
local found = {}
for _, namespace in pairs(vim.api.nvim_get_namespaces()) do
  for _, mark in ipairs(vim.api.nvim_buf_get_extmarks(0, namespace, 0, -1, { details = true })) do
    for _, chunk in ipairs(mark[4].virt_text or {}) do
      if chunk[2] == 'ComplHint' then found[#found + 1] = chunk[1] end
    end
  end
end
return table.concat(found)
"""


def binary() -> str:
    """Path of a Neovim with inline completion, or skip with the reason."""
    path = os.environ.get("QCODER_NVIM") or shutil.which("nvim")
    if path is None:
        pytest.skip("no nvim on PATH")
    banner = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.match(r"NVIM v(\d+)\.(\d+)", banner)
    if match is None or tuple(map(int, match.groups())) < (0, 12):
        pytest.skip(f"inline completion needs Neovim 0.12, this is {banner.splitlines()[0]}")
    return path


class Editor:
    """One Neovim with the plugin and its open file, talked to in MessagePack-RPC over its pipes."""

    def __init__(self, process: subprocess.Popen[bytes], file: Path) -> None:
        self.process = process
        self.file = file
        self._unpacker = msgpack.Unpacker()
        self._last_id = 0

    def call(self, method: str, *arguments: Any) -> Any:
        """Call an API function and return its result; what the editor sends by itself is dropped."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._last_id += 1
        self.process.stdin.write(msgpack.packb([0, self._last_id, method, arguments]))
        self.process.stdin.flush()
        while True:
            for kind, *rest in self._unpacker:
                if kind == 1 and rest[0] == self._last_id:
                    _, error, result = rest
                    assert error is None, f"{method}: {error}"
                    return result
            ready, _, _ = select.select([self.process.stdout], [], [], TIMEOUT_S)
            assert ready, f"{method} was not answered within {TIMEOUT_S} s"
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, "Neovim has ended"
            self._unpacker.feed(data)

    def lua(self, code: str, *arguments: Any) -> Any:
        """Run Lua inside the editor."""
        return self.call("nvim_exec_lua", code, arguments)

    def command(self, text: str) -> None:
        """Run an Ex command."""
        self.call("nvim_command", text)

    def type(self, keys: str) -> None:
        """Queue keys as if typed."""
        self.call("nvim_input", keys)

    def wait(self, what: str, condition: Callable[[], Any]) -> None:
        """Until `condition` holds; polls, since keys and messages are asynchronous."""
        end = time.monotonic() + TIMEOUT_S
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(
                    f"no {what} in {TIMEOUT_S} s; {self.messages()}; {self.lines()}"
                )
            time.sleep(0.02)

    def ghost(self) -> str:
        """Suggested text on the screen."""
        return str(self.lua(GHOST))

    def lines(self) -> list[str]:
        """Text of the buffer."""
        return list(self.call("nvim_buf_get_lines", 0, 0, -1, True))

    def messages(self) -> str:
        """What the editor has said."""
        return str(self.call("nvim_exec2", "messages", {"output": True})["output"])

    def setup(self, **options: Any) -> bool:
        """Call the plugin's setup and open the file."""
        options = {"cmd": [str(SERVER), "--stdio"], **options}
        started = self.lua("return require('qcoder').setup(...)", options)
        self.command(f"edit {self.file}")
        return bool(started)

    def ready(self) -> None:
        """Until model and index are there."""
        state = "return vim.api.nvim_exec2('Qcoder status', { output = true }).output"
        self.wait("ready server", lambda: "Normal" in self.lua(state))


@pytest.fixture
def editor(tmp_path: Path) -> Iterator[Editor]:
    """A clean Neovim in a workspace of one file; nothing of the user's is read or written."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "qcoder.toml").write_text("")
    file = workspace / "shelves.py"
    file.write_text(SOURCE)
    homes = {f"XDG_{n}_HOME": str(tmp_path / n) for n in ("CONFIG", "DATA", "STATE", "CACHE")}
    with subprocess.Popen(
        [binary(), "--embed", "--headless", "--clean"],
        cwd=workspace,
        env={**os.environ, **homes, "QCODER_ENGINE": SCRIPT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            opened = Editor(process, file)
            opened.command(f"set runtimepath+={PLUGIN}")
            yield opened
        finally:
            process.terminate()


def typed(editor: Editor) -> None:
    """Open a line at the end, type, and wait for the suggestion."""
    editor.type("Go")
    editor.type("shelf.")  # indented by the filetype
    editor.wait("suggestion", lambda: editor.ghost() == "add(item, amount)")


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("<Tab>", "    shelf.add(item, amount)"),
        ("<M-w>", "    shelf.add"),
        ("<M-l>", "    shelf.add(item, amount)"),
    ],
)
def test_key_accepts_the_suggestion(editor: Editor, key: str, line: str) -> None:
    editor.setup()
    editor.ready()
    typed(editor)
    editor.type(key)
    editor.wait("accepted text", lambda: editor.lines()[-1] == line)


@pytest.mark.e2e
def test_tab_without_a_suggestion_is_a_tab(editor: Editor) -> None:
    editor.setup()
    editor.ready()
    editor.command("set expandtab shiftwidth=4 softtabstop=4")
    editor.type("ggO<Tab>x<Esc>")
    editor.wait("ordinary tab", lambda: editor.lines()[0] == "    x")


@pytest.mark.e2e
def test_second_file_gets_suggestions_too(editor: Editor) -> None:
    editor.setup()
    editor.ready()
    other = editor.file.with_name("other.py")
    other.write_text(SOURCE)
    editor.command(f"edit {other}")
    attached = "return #vim.lsp.get_clients({ name = 'qcoder', bufnr = 0 })"
    editor.wait("client", lambda: editor.lua(attached) == 1)
    typed(editor)


@pytest.mark.e2e
def test_opened_file_is_reviewed(editor: Editor) -> None:
    editor.setup()
    codes = "return vim.tbl_map(function(d) return d.code end, vim.diagnostic.get(0))"
    editor.wait("finding", lambda: editor.lua(codes) == ["resource-leak"])


@pytest.mark.e2e
def test_docstring_command_edits_the_definition(editor: Editor) -> None:
    editor.setup()
    editor.ready()
    editor.type("4G")
    editor.command("Qcoder docstring")
    editor.wait("docstring", lambda: '"""' in editor.lines()[4])
    assert editor.lines()[3] == "def load(path):"


@pytest.mark.e2e
def test_restart_brings_a_new_server(editor: Editor) -> None:
    editor.setup()
    editor.ready()
    client = "local c = vim.lsp.get_clients({ name = 'qcoder' })[1]; return c and c.id or 0"
    first = editor.lua(client)
    editor.command("Qcoder restart")
    editor.wait("new client", lambda: editor.lua(client) > first)
    editor.ready()


@pytest.mark.e2e
def test_missing_server_is_said_and_nothing_starts(editor: Editor) -> None:
    assert not editor.setup(cmd=["/nowhere/qcoder-lsp"])
    assert "/nowhere/qcoder-lsp is not executable" in editor.messages()
    assert editor.lua("return #vim.lsp.get_clients()") == 0
