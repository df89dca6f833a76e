"""Commands, pages, help and health in real Neovims, new and old; the engine is scripted.

Run by `make e2e-nvim`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from editors_at_hand import PLUGIN, SOURCE, is_running
from neovim_editor import Editor, typed, write

pytestmark = pytest.mark.e2e


def test_opened_file_is_reviewed(neovim: Editor) -> None:
    neovim.setup()
    codes = "return vim.tbl_map(function(d) return d.code end, vim.diagnostic.get(0))"
    if neovim.lua("return vim.fn.has('nvim-0.8')") == 0:
        codes = codes.replace("d.code", "d.user_data.lsp.code")
    neovim.wait("finding", lambda: neovim.lua(codes) == ["resource-leak"])


def test_review_command_reviews_again(neovim: Editor) -> None:
    neovim.setup()
    count = "return #vim.diagnostic.get(0)"
    neovim.wait("finding", lambda: neovim.lua(count) == 1)
    neovim.lua("vim.diagnostic.reset()")
    assert neovim.lua(count) == 0
    neovim.command("Qcoder review")
    neovim.wait("finding again", lambda: neovim.lua(count) == 1)


def test_docstring_command_edits_the_definition(neovim: Editor) -> None:
    neovim.setup()
    neovim.ready()
    neovim.type("4G")
    neovim.command("Qcoder docstring")
    neovim.wait("docstring", lambda: '"""' in neovim.lines()[4])
    assert neovim.lines()[3] == "def load(path):"


def test_docstring_command_says_when_there_is_nothing_to_write(neovim: Editor) -> None:
    neovim.setup()
    neovim.ready()
    neovim.type("2G")
    neovim.command("Qcoder docstring")
    neovim.wait("message", lambda: "no docstring to write" in neovim.messages())


def test_code_action_writes_a_docstring(neovim: Editor) -> None:
    neovim.setup()
    neovim.ready()
    neovim.type("4G")
    neovim.lua("""
    vim.ui.select = function(items, options, choose)
      for index, item in ipairs(items) do
        if options.format_item(item):lower():find('docstring', 1, true) then return choose(item, index) end
      end
    end
    vim.lsp.buf.code_action()
    """)
    neovim.wait("docstring", lambda: '"""' in neovim.lines()[4])


def test_pages_say_why_and_how_much(neovim: Editor) -> None:
    neovim.setup()
    neovim.ready()
    typed(neovim)
    neovim.type("<Esc>")
    neovim.command("Qcoder explain")
    neovim.wait("page", lambda: "a suggestion was made; 1 shown" in "\n".join(neovim.lines()))
    assert "shelves.py, line 10, column 11" in "\n".join(neovim.lines())
    neovim.type("q")
    neovim.wait("the file", lambda: neovim.lines()[0] == '"""Shelves."""')
    neovim.command("Qcoder stats")
    neovim.wait("page", lambda: any(line.split() == ["requests", "1"] for line in neovim.lines()))


def test_models_are_listed_and_one_is_chosen(neovim: Editor) -> None:
    neovim.setup()
    neovim.ready()
    neovim.lua("""
    vim.ui.select = function(items, options, choose)
      vim.g.offered = options.format_item(items[1])
      choose({ name = 'another' })
    end
    """)
    neovim.command("Qcoder models")
    neovim.wait("list", lambda: "default" in (neovim.call("nvim_eval", "get(g:, 'offered', '')")))
    answer = """
    local client, current = require('qcoder.client')
    client.request(client.all()[1], 'qcoder/models', vim.empty_dict(), function(_, r) current = r.current end, 0)
    vim.wait(10000, function() return current ~= nil end)
    return current
    """
    neovim.wait("other model", lambda: neovim.lua(answer) == "another")


def test_changes_are_reviewed_and_listed(neovim: Editor) -> None:
    folder, other = neovim.home.workspace, neovim.home.workspace / "other.py"
    shutil.rmtree(folder / ".git")
    write(other, "x = 1\n")
    for command in (["init"], ["add", "."], ["commit", "-m", "all"]):
        name = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *name, *command], cwd=folder, check=True, capture_output=True)
    write(other, "x = 1\n" + SOURCE)
    neovim.setup()
    neovim.ready()
    neovim.command("Qcoder changes")
    listed = "map(getqflist(), 'bufname(v:val.bufnr)')"
    neovim.wait("list", lambda: any("other.py" in n for n in neovim.call("nvim_eval", listed)))


def test_restart_brings_a_new_server(neovim: Editor) -> None:
    neovim.setup()
    neovim.ready()
    (first,) = neovim.home.server_pids()
    neovim.command("Qcoder restart")
    neovim.wait("new server", lambda: set(neovim.home.server_pids()) - {first})
    neovim.wait("end of the first", lambda: not is_running(first))
    assert "has ended" not in neovim.messages()
    neovim.wait_ready_again()
    typed(neovim)


def test_killed_server_is_said_and_can_be_started_again(neovim: Editor) -> None:
    neovim.setup()
    neovim.ready()
    (pid,) = neovim.home.server_pids()
    os.kill(pid, signal.SIGKILL)
    neovim.wait("message", lambda: "the server has ended (signal 9)" in neovim.messages())
    neovim.command("Qcoder restart")
    neovim.wait("new server", neovim.home.server_pids)
    neovim.wait_ready_again()
    typed(neovim)


def test_health_check_finds_nothing_wrong(neovim: Editor) -> None:
    neovim.setup()
    neovim.ready()
    neovim.command("checkhealth qcoder")
    page = "\n".join(neovim.lines())
    assert "qcoder-lsp" in page
    assert "1 running; Normal" in page
    assert "ERROR" not in page
    assert "WARN" not in page


def test_missing_server_is_said_and_nothing_starts(neovim: Editor) -> None:
    assert not neovim.setup(cmd=["/nowhere/qcoder-lsp"])
    assert "/nowhere/qcoder-lsp is not executable" in neovim.messages()
    assert neovim.home.server_pids() == []
    neovim.command("checkhealth qcoder")
    assert "/nowhere/qcoder-lsp is not executable" in "\n".join(neovim.lines())


def test_help_file_has_its_tags(neovim: Editor, tmp_path: Path) -> None:
    copy = tmp_path / "plugin" / "doc"
    copy.mkdir(parents=True)
    write(copy / "qcoder.txt", (PLUGIN / "doc" / "qcoder.txt").read_text("utf-8"))
    neovim.command(f"helptags {copy}")
    neovim.command(f"set runtimepath+={copy.parent}")
    commands = neovim.lua("return vim.tbl_keys(require('qcoder.commands').commands)")
    for topic in ("qcoder", "qcoder-setup", "qcoder-keys", *(f":Qcoder-{c}" for c in commands)):
        neovim.command(f"help {topic}")
        assert neovim.call("nvim_eval", "expand('%:t')") == "qcoder.txt"
