"""Real Neovims, new and old, typed into like a user's, against a server with a scripted engine.

Run by `make e2e-nvim`. `QCODER_NVIM` and `QCODER_NVIM_OLD` name other programs than those found.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from editors_at_hand import (
    PLUGIN,
    SCRIPT,
    SOURCE,
    find_nvim,
    is_running,
    make_home,
    readme_block,
    wait_for,
)
from neovim_editor import Editor, started, write

pytestmark = pytest.mark.e2e

FIND = {
    "new": lambda: find_nvim("QCODER_NVIM", lambda v: v >= (0, 12), "0.12 or newer"),
    "old": lambda: find_nvim("QCODER_NVIM_OLD", lambda v: (0, 7) <= v < (0, 11), "0.7 to 0.10"),
}
ALL = "add(item, amount)"
BLOCK = "if amount < 0:\n        raise ValueError(item)\n    shelf.add(item)"


def opened(age: str, tmp_path: Path, script: str = SCRIPT) -> Iterator[Editor]:
    home = make_home(tmp_path, script)
    with started(FIND[age](), home) as editor:
        yield editor
        editor.quit()
    wait_for("end of the server", lambda: not home.server_pids())


@pytest.fixture(params=["new", "old"])
def editor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Editor]:
    """Each Neovim in turn; it leaves no server behind."""
    yield from opened(request.param, tmp_path)


@pytest.fixture(params=["new", "old"])
def block_editor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Editor]:
    """The same with a model that suggests several lines."""
    yield from opened(request.param, tmp_path, f"fake:{BLOCK}")


@pytest.fixture
def new_editor(tmp_path: Path) -> Iterator[Editor]:
    """A Neovim with inline completion of its own."""
    yield from opened("new", tmp_path)


def typed(editor: Editor) -> None:
    """Open a line at the end, type, and wait for the suggestion."""
    editor.type("Go")
    editor.type("shelf.")  # indented by the filetype
    editor.wait_ghost(ALL)


def counts(editor: Editor, name: str) -> int:
    """How often the server did something."""
    code = """
    local client, answer = require('qcoder.client')
    client.request(client.all()[1], 'qcoder/counts', vim.empty_dict(), function(_, r) answer = r end, 0)
    vim.wait(10000, function() return answer ~= nil end)
    return answer[...]
    """
    return int(editor.lua(code, name))


@pytest.mark.parametrize(
    ("key", "line", "left"),
    [
        ("<Tab>", "    shelf.add(item, amount)", ""),
        ("<M-w>", "    shelf.add", "(item, amount)"),
        ("<M-l>", "    shelf.add(item, amount)", ""),
    ],
)
def test_key_accepts_the_suggestion(editor: Editor, key: str, line: str, left: str) -> None:
    editor.setup()
    editor.ready()
    typed(editor)
    editor.type(key)
    editor.wait_line(-1, line)
    if left:
        editor.wait_ghost(left)


def test_several_lines_are_taken_one_by_one(block_editor: Editor) -> None:
    editor = block_editor
    editor.setup(settings={"completion": {"multiline": "always"}})
    editor.ready()
    editor.type("Go")
    editor.wait_ghost(BLOCK)
    seen = editor.screen()
    at = seen.index("    if amount < 0:")
    assert seen[at + 1 : at + 3] == ["        raise ValueError(item)", "    shelf.add(item)"]
    editor.type("<M-l>")
    editor.wait_line(-1, "    if amount < 0:")
    editor.wait_ghost("\n        raise ValueError(item)\n    shelf.add(item)")
    editor.type("<CR>")
    editor.wait_ghost("raise ValueError(item)\n    shelf.add(item)")
    editor.type("<M-l>")
    editor.wait_line(-1, "        raise ValueError(item)")
    editor.type("<Tab>")
    editor.wait_line(-1, "    shelf.add(item)")
    assert editor.lines()[-3:-1] == ["    if amount < 0:", "        raise ValueError(item)"]


def test_undo_takes_back_only_what_was_accepted(editor: Editor) -> None:
    editor.setup()
    editor.ready()
    typed(editor)
    editor.type("<Tab>")
    editor.wait_line(-1, "    shelf.add(item, amount)")
    editor.type("<Esc>u")
    editor.wait_line(-1, "    shelf.")


def test_what_is_typed_as_suggested_asks_nothing(editor: Editor) -> None:
    editor.setup()
    editor.ready()
    typed(editor)
    before = counts(editor, "requests")
    editor.type("add")
    editor.wait_ghost("(item, amount)")
    editor.type("<BS>")
    editor.wait_ghost("d(item, amount)")
    assert counts(editor, "requests") == before


def test_another_character_takes_the_suggestion_away(editor: Editor) -> None:
    editor.setup()
    editor.ready()
    typed(editor)
    editor.lua("require('qcoder.client').request = function() end")  # no new one comes
    editor.type("x")
    editor.wait_ghost("")
    editor.type("<Tab>")
    editor.wait("ordinary tab", lambda: re.fullmatch(r"    shelf\.x +", editor.lines()[-1]))


def test_leaving_insert_mode_takes_the_suggestion_away(editor: Editor) -> None:
    editor.setup()
    editor.ready()
    typed(editor)
    editor.type("<Esc>")
    editor.wait_ghost("")


def test_next_and_previous_show_alternatives(editor: Editor) -> None:
    editor.setup()
    editor.ready()
    typed(editor)
    editor.type("<M-]>")
    editor.wait_ghost("add(amount, item)")
    editor.type("<M-]>")
    editor.wait_ghost("take(item)")
    editor.type("<M-[><M-[>")
    editor.wait_ghost(ALL)
    editor.type("t")
    editor.wait_ghost("ake(item)")
    editor.type("<Tab>")
    editor.wait_line(-1, "    shelf.take(item)")


def test_tab_without_a_suggestion_is_a_tab(editor: Editor) -> None:
    editor.setup()
    editor.ready()
    editor.command("set expandtab shiftwidth=4 softtabstop=4")
    editor.type("ggO<Tab>x<Esc>")
    editor.wait_line(0, "    x")


def test_tab_belongs_to_an_open_menu(editor: Editor) -> None:
    editor.setup()
    editor.ready()
    typed(editor)
    editor.type("r<C-n>")  # words of the buffer: restock, return, read
    editor.wait("menu", lambda: editor.call("nvim_call_function", "pumvisible", []) == 1)
    chosen = editor.lines()[-1]
    editor.type("<Tab>")
    editor.wait("ordinary tab", lambda: re.fullmatch(rf"{re.escape(chosen)} +", editor.lines()[-1]))


def test_emoji_before_the_cursor_shifts_nothing(editor: Editor) -> None:
    editor.setup()
    editor.ready()
    editor.type("Gox = '🦀🦀é'; shelf.")
    editor.wait_ghost(ALL)
    editor.type("<M-w>")
    editor.wait_line(-1, "    x = '🦀🦀é'; shelf.add")
    editor.wait_ghost("(item, amount)")
    editor.type("<Tab>")
    editor.wait_line(-1, "    x = '🦀🦀é'; shelf.add(item, amount)")


def test_suggestion_before_a_bracket_leaves_it_there(editor: Editor) -> None:
    editor.setup()
    editor.ready()
    editor.type("Goprint()<Left>")
    editor.type("shelf.")
    editor.wait_ghost(ALL)
    assert "    print(shelf.add(item, amount))" in editor.screen()
    editor.type("<Tab>")
    editor.wait_line(-1, "    print(shelf.add(item, amount))")


def test_file_with_carriage_returns_keeps_them(editor: Editor) -> None:
    file = write(editor.file, editor.file.read_text().replace("\n", "\r\n"))
    editor.setup()
    editor.ready()
    assert editor.call("nvim_eval", "&fileformat") == "dos"
    typed(editor)
    editor.type("<Tab>")
    editor.wait_line(-1, "    shelf.add(item, amount)")
    editor.type("<Esc>")
    editor.command("write")
    assert file.read_bytes().endswith(b"amount):\r\n    shelf.add(item, amount)\r\n")


def test_second_file_gets_suggestions_too(editor: Editor) -> None:
    editor.setup()
    editor.ready()
    other = write(editor.file.with_name("other.py"), editor.file.read_text())
    editor.command(f"edit {other}")
    attached = "return #require('qcoder.client').all(vim.api.nvim_get_current_buf())"
    editor.wait("client", lambda: editor.lua(attached) == 1)
    typed(editor)
    assert len(editor.home.server_pids()) == 1


def test_opened_file_is_reviewed(editor: Editor) -> None:
    editor.setup()
    codes = "return vim.tbl_map(function(d) return d.code end, vim.diagnostic.get(0))"
    if editor.lua("return vim.fn.has('nvim-0.8')") == 0:
        codes = codes.replace("d.code", "d.user_data.lsp.code")
    editor.wait("finding", lambda: editor.lua(codes) == ["resource-leak"])


def test_review_command_reviews_again(editor: Editor) -> None:
    editor.setup()
    count = "return #vim.diagnostic.get(0)"
    editor.wait("finding", lambda: editor.lua(count) == 1)
    editor.lua("vim.diagnostic.reset()")
    assert editor.lua(count) == 0
    editor.command("Qcoder review")
    editor.wait("finding again", lambda: editor.lua(count) == 1)


def test_docstring_command_edits_the_definition(editor: Editor) -> None:
    editor.setup()
    editor.ready()
    editor.type("4G")
    editor.command("Qcoder docstring")
    editor.wait("docstring", lambda: '"""' in editor.lines()[4])
    assert editor.lines()[3] == "def load(path):"


def test_docstring_command_says_when_there_is_nothing_to_write(editor: Editor) -> None:
    editor.setup()
    editor.ready()
    editor.type("2G")
    editor.command("Qcoder docstring")
    editor.wait("message", lambda: "no docstring to write" in editor.messages())


def test_code_action_writes_a_docstring(editor: Editor) -> None:
    editor.setup()
    editor.ready()
    editor.type("4G")
    editor.lua("""
    vim.ui.select = function(items, options, choose)
      for index, item in ipairs(items) do
        if options.format_item(item):lower():find('docstring', 1, true) then return choose(item, index) end
      end
    end
    vim.lsp.buf.code_action()
    """)
    editor.wait("docstring", lambda: '"""' in editor.lines()[4])


def test_pages_say_why_and_how_much(editor: Editor) -> None:
    editor.setup()
    editor.ready()
    typed(editor)
    editor.type("<Esc>")
    editor.command("Qcoder explain")
    editor.wait("page", lambda: "a suggestion was made; 1 shown" in "\n".join(editor.lines()))
    assert "shelves.py, line 10, column 11" in "\n".join(editor.lines())
    editor.type("q")
    editor.wait("the file", lambda: editor.lines()[0] == '"""Shelves."""')
    editor.command("Qcoder stats")
    editor.wait("page", lambda: any(line.split() == ["requests", "1"] for line in editor.lines()))


def test_models_are_listed_and_one_is_chosen(editor: Editor) -> None:
    editor.setup()
    editor.ready()
    editor.lua("""
    vim.ui.select = function(items, options, choose)
      vim.g.offered = options.format_item(items[1])
      choose({ name = 'another' })
    end
    """)
    editor.command("Qcoder models")
    editor.wait("list", lambda: "default" in (editor.call("nvim_eval", "get(g:, 'offered', '')")))
    answer = """
    local client, current = require('qcoder.client')
    client.request(client.all()[1], 'qcoder/models', vim.empty_dict(), function(_, r) current = r.current end, 0)
    vim.wait(10000, function() return current ~= nil end)
    return current
    """
    editor.wait("other model", lambda: editor.lua(answer) == "another")


def test_changes_are_reviewed_and_listed(editor: Editor) -> None:
    folder, other = editor.home.workspace, editor.home.workspace / "other.py"
    shutil.rmtree(folder / ".git")
    write(other, "x = 1\n")
    for command in (["init"], ["add", "."], ["commit", "-m", "all"]):
        name = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *name, *command], cwd=folder, check=True, capture_output=True)
    write(other, "x = 1\n" + SOURCE)
    editor.setup()
    editor.ready()
    editor.command("Qcoder changes")
    listed = "map(getqflist(), 'bufname(v:val.bufnr)')"
    editor.wait("list", lambda: any("other.py" in n for n in editor.call("nvim_eval", listed)))


def test_restart_brings_a_new_server(editor: Editor) -> None:
    editor.setup()
    editor.ready()
    (first,) = editor.home.server_pids()
    editor.command("Qcoder restart")
    editor.wait("new server", lambda: set(editor.home.server_pids()) - {first})
    editor.wait("end of the first", lambda: not is_running(first))
    assert "has ended" not in editor.messages()
    editor.wait_ready_again()
    typed(editor)


def test_killed_server_is_said_and_can_be_started_again(editor: Editor) -> None:
    editor.setup()
    editor.ready()
    (pid,) = editor.home.server_pids()
    os.kill(pid, signal.SIGKILL)
    editor.wait("message", lambda: "the server has ended (signal 9)" in editor.messages())
    editor.command("Qcoder restart")
    editor.wait("new server", editor.home.server_pids)
    editor.wait_ready_again()
    typed(editor)


def test_health_check_finds_nothing_wrong(editor: Editor) -> None:
    editor.setup()
    editor.ready()
    editor.command("checkhealth qcoder")
    page = "\n".join(editor.lines())
    assert "qcoder-lsp" in page
    assert "1 running; Normal" in page
    assert "ERROR" not in page
    assert "WARN" not in page


def test_missing_server_is_said_and_nothing_starts(editor: Editor) -> None:
    assert not editor.setup(cmd=["/nowhere/qcoder-lsp"])
    assert "/nowhere/qcoder-lsp is not executable" in editor.messages()
    assert editor.home.server_pids() == []
    editor.command("checkhealth qcoder")
    assert "/nowhere/qcoder-lsp is not executable" in "\n".join(editor.lines())


def test_help_file_has_its_tags(editor: Editor, tmp_path: Path) -> None:
    copy = tmp_path / "plugin" / "doc"
    copy.mkdir(parents=True)
    write(copy / "qcoder.txt", (PLUGIN / "doc" / "qcoder.txt").read_text("utf-8"))
    editor.command(f"helptags {copy}")
    editor.command(f"set runtimepath+={copy.parent}")
    commands = editor.lua("return vim.tbl_keys(require('qcoder.commands').commands)")
    for topic in ("qcoder", "qcoder-setup", "qcoder-keys", *(f":Qcoder-{c}" for c in commands)):
        editor.command(f"help {topic}")
        assert editor.call("nvim_eval", "expand('%:t')") == "qcoder.txt"


def test_only_the_plugin_draws_where_the_user_has_turned_inline_completion_on(
    new_editor: Editor,
) -> None:
    new_editor.lua("vim.lsp.inline_completion.enable()")
    new_editor.setup()
    new_editor.ready()
    typed(new_editor)
    enabled = "return vim.lsp.inline_completion.is_enabled({ bufnr = 0, client_id = ... })"
    (client,) = new_editor.lua(
        "return vim.tbl_map(function(c) return c.id end, vim.lsp.get_clients())"
    )
    assert not new_editor.lua(enabled, client)


def test_readme_set_up_without_the_plugin_works(new_editor: Editor) -> None:
    editor = new_editor
    editor.command(f"set runtimepath-={PLUGIN}")
    editor.lua(readme_block("Neovim", "lua", 1))
    editor.lua("vim.lsp.handlers['qcoder/status'] = function(_, s) vim.g.kind = s.kind end")
    editor.command(f"edit {editor.file}")
    editor.wait("ready server", lambda: editor.call("nvim_eval", "get(g:, 'kind')") == "Normal")
    editor.type("Goshelf.")
    editor.wait_ghost(ALL)
    editor.type("<Tab>")
    editor.wait_line(-1, "    shelf.add(item, amount)")
