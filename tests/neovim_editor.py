"""One Neovim, talked to in MessagePack-RPC over its pipes: keys go in as if typed."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgpack
from editors_at_hand import PLUGIN, TIMEOUT_S, Home, wait_for

ALL = "add(item, amount)"
"""What the scripted engine suggests first."""

BLOCK = "if amount < 0:\n        raise ValueError(item)\n    shelf.add(item)"

# What is grey on the screen: text at the cursor, then the lines below. A number of candidates is
# no part of it.
GHOST = """
local found = {}
for _, namespace in pairs(vim.api.nvim_get_namespaces()) do
  for _, mark in ipairs(vim.api.nvim_buf_get_extmarks(0, namespace, 0, -1, { details = true })) do
    local lines = vim.list_extend({ mark[4].virt_text or {} }, mark[4].virt_lines or {})
    local texts = {}
    for _, line in ipairs(lines) do
      local text
      for _, chunk in ipairs(line) do
        if chunk[2] == 'ComplHint' or chunk[2] == 'QcoderGhost' then text = (text or '') .. chunk[1] end
      end
      texts[#texts + 1] = text
    end
    if #texts > 0 then found[#found + 1] = table.concat(texts, '\\n') end
  end
end
return table.concat(found, '|')
"""


SCREEN = """
vim.cmd('redraw')
local rows = {}
for row = 1, vim.o.lines do
  local cells = {}
  for column = 1, vim.o.columns do cells[column] = vim.fn.screenstring(row, column) end
  rows[row] = (table.concat(cells):gsub('%s+$', ''))
end
return rows
"""


class Editor:
    """A running Neovim with an open file."""

    def __init__(self, process: subprocess.Popen[bytes], home: Home) -> None:
        self.process = process
        self.home = home
        self.file = home.workspace / "shelves.py"
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

    def wait(self, what: str, condition: Callable[[], Any]) -> Any:
        """Until the condition holds."""
        return wait_for(what, condition, lambda: f"{self.messages()}; {self.lines()}")

    def wait_line(self, number: int, text: str) -> None:
        """Until a line of the buffer (0-based, or from the end) has this text."""
        self.wait(f"{text!r}", lambda: self.lines()[number] == text)

    def wait_ghost(self, text: str) -> None:
        """Until exactly this is suggested on the screen."""
        self.wait(f"suggestion {text!r}", lambda: self.ghost() == text)

    def ghost(self) -> str:
        """Suggested text on the screen."""
        return str(self.lua(GHOST))

    def screen(self) -> list[str]:
        """What is to be seen, row by row."""
        return list(self.lua(SCREEN))

    def lines(self) -> list[str]:
        """Text of the buffer."""
        return list(self.call("nvim_buf_get_lines", 0, 0, -1, True))

    def messages(self) -> str:
        """What the editor has said."""
        return str(self.call("nvim_call_function", "execute", ["messages"]))

    def mode(self) -> str:
        """Mode, as `nvim_get_mode` names it."""
        return str(self.call("nvim_get_mode")["mode"])

    def setup(self, **options: Any) -> bool:
        """Call the plugin's setup and open the file."""
        started = self.lua("return require('qcoder').setup(...)", options)
        self.command(f"edit {self.file}")
        return bool(started)

    def ready(self) -> None:
        """Until model and index are there."""
        state = "return require('qcoder.client').status.kind"
        self.wait("ready server", lambda: self.lua(state) == "Normal")

    def wait_ready_again(self) -> None:
        """Until a server that was started later serves the file and its model is there."""
        serves = "return #require('qcoder.client').all(vim.api.nvim_get_current_buf()) == 1"
        self.wait("client", lambda: self.lua(serves))
        self.ready()

    def quit(self) -> None:
        """Leave as a user does, and wait until the process has ended."""
        with suppress(AssertionError, BrokenPipeError):  # it ends instead of answering
            self.command("qall!")
        self.process.wait(TIMEOUT_S)


@contextmanager
def started(path: str, home: Home) -> Iterator[Editor]:
    """A Neovim that reads nothing of the user's, with the plugin on its runtime path."""
    with subprocess.Popen(
        [path, "--embed", "--headless", "--clean"],
        cwd=home.workspace,
        env=home.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            editor = Editor(process, home)
            editor.command(f"set runtimepath+={PLUGIN} signcolumn=no")
            yield editor
        finally:
            process.terminate()


def write(path: Path, text: str) -> Path:
    """A file with exactly these characters."""
    path.write_bytes(text.encode())
    return path


def typed(editor: Editor) -> None:
    """Open a line at the end, type, and wait for the suggestion."""
    editor.type("Go")
    editor.type("shelf.")  # indented by the filetype
    editor.wait_ghost(ALL)
