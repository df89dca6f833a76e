"""Suggestions in real Neovims, new and old, typed into like a user's; the engine is scripted.

Run by `make e2e-nvim`. `QCODER_NVIM` and `QCODER_NVIM_OLD` name other programs than those found.
"""

from __future__ import annotations

import re

import pytest
from editors_at_hand import PLUGIN, readme_block
from neovim_editor import ALL, BLOCK, Editor, typed, write

pytestmark = pytest.mark.e2e


def counts(neovim: Editor, name: str) -> int:
    """How often the server did something."""
    code = """
    local client, answer = require('qcoder.client')
    client.request(client.all()[1], 'qcoder/counts', vim.empty_dict(), function(_, r) answer = r end, 0)
    vim.wait(10000, function() return answer ~= nil end)
    return answer[...]
    """
    return int(neovim.lua(code, name))


@pytest.mark.parametrize(
    ("key", "line", "left"),
    [
        ("<Tab>", "    shelf.add(item, amount)", ""),
        ("<M-w>", "    shelf.add", "(item, amount)"),
        ("<M-l>", "    shelf.add(item, amount)", ""),
    ],
)
def test_key_accepts_the_suggestion(neovim: Editor, key: str, line: str, left: str) -> None:
    neovim.setup()
    neovim.ready()
    typed(neovim)
    neovim.type(key)
    neovim.wait_line(-1, line)
    if left:
        neovim.wait_ghost(left)


def test_several_lines_are_taken_one_by_one(block_neovim: Editor) -> None:
    neovim = block_neovim
    neovim.setup(settings={"completion": {"multiline": "always"}})
    neovim.ready()
    neovim.type("Go")
    neovim.wait_ghost(BLOCK)
    seen = neovim.screen()
    at = seen.index("    if amount < 0:")
    assert seen[at + 1 : at + 3] == ["        raise ValueError(item)", "    shelf.add(item)"]
    neovim.type("<M-l>")
    neovim.wait_line(-1, "    if amount < 0:")
    neovim.wait_ghost("\n        raise ValueError(item)\n    shelf.add(item)")
    neovim.type("<CR>")
    neovim.wait_ghost("raise ValueError(item)\n    shelf.add(item)")
    neovim.type("<M-l>")
    neovim.wait_line(-1, "        raise ValueError(item)")
    neovim.type("<Tab>")
    neovim.wait_line(-1, "    shelf.add(item)")
    assert neovim.lines()[-3:-1] == ["    if amount < 0:", "        raise ValueError(item)"]


def test_undo_takes_back_only_what_was_accepted(neovim: Editor) -> None:
    neovim.setup()
    neovim.ready()
    typed(neovim)
    neovim.type("<Tab>")
    neovim.wait_line(-1, "    shelf.add(item, amount)")
    neovim.type("<Esc>u")
    neovim.wait_line(-1, "    shelf.")


def test_what_is_typed_as_suggested_asks_nothing(neovim: Editor) -> None:
    neovim.setup()
    neovim.ready()
    typed(neovim)
    before = counts(neovim, "requests")
    neovim.type("add")
    neovim.wait_ghost("(item, amount)")
    neovim.type("<BS>")
    neovim.wait_ghost("d(item, amount)")
    assert counts(neovim, "requests") == before


def test_what_is_typed_before_the_model_is_there_is_answered_later(neovim: Editor) -> None:
    neovim.setup()
    neovim.type("Goshelf.")
    neovim.wait_ghost(ALL)


def test_another_character_takes_the_suggestion_away(neovim: Editor) -> None:
    neovim.setup()
    neovim.ready()
    typed(neovim)
    neovim.lua("require('qcoder.client').request = function() end")  # no new one comes
    neovim.type("x")
    neovim.wait_ghost("")
    neovim.type("<Tab>")
    neovim.wait("ordinary tab", lambda: re.fullmatch(r"    shelf\.x +", neovim.lines()[-1]))


def test_leaving_insert_mode_takes_the_suggestion_away(neovim: Editor) -> None:
    neovim.setup()
    neovim.ready()
    typed(neovim)
    neovim.type("<Esc>")
    neovim.wait_ghost("")


def test_next_and_previous_show_alternatives(neovim: Editor) -> None:
    neovim.setup()
    neovim.ready()
    typed(neovim)
    neovim.type("<M-]>")
    neovim.wait_ghost("add(amount, item)")
    neovim.type("<M-]>")
    neovim.wait_ghost("take(item)")
    neovim.type("<M-[><M-[>")
    neovim.wait_ghost(ALL)
    neovim.type("t")
    neovim.wait_ghost("ake(item)")
    neovim.type("<Tab>")
    neovim.wait_line(-1, "    shelf.take(item)")


def test_tab_without_a_suggestion_is_a_tab(neovim: Editor) -> None:
    neovim.setup()
    neovim.ready()
    neovim.command("set expandtab shiftwidth=4 softtabstop=4")
    neovim.type("ggO<Tab>x<Esc>")
    neovim.wait_line(0, "    x")


def test_tab_belongs_to_an_open_menu(neovim: Editor) -> None:
    neovim.setup()
    neovim.ready()
    typed(neovim)
    neovim.type("r<C-n>")  # words of the buffer: restock, return, read
    neovim.wait("menu", lambda: neovim.call("nvim_call_function", "pumvisible", []) == 1)
    chosen = neovim.lines()[-1]
    neovim.type("<Tab>")
    neovim.wait("ordinary tab", lambda: re.fullmatch(rf"{re.escape(chosen)} +", neovim.lines()[-1]))


def test_emoji_before_the_cursor_shifts_nothing(neovim: Editor) -> None:
    neovim.setup()
    neovim.ready()
    neovim.type("Gox = '🦀🦀é'; print()<Left>")
    neovim.type("shelf.")
    neovim.wait_ghost(ALL)
    neovim.type("<M-w>")
    neovim.wait_line(-1, "    x = '🦀🦀é'; print(shelf.add)")
    neovim.wait_ghost("(item, amount)")
    neovim.type("<Tab>")
    neovim.wait_line(-1, "    x = '🦀🦀é'; print(shelf.add(item, amount))")


def test_suggestion_before_a_bracket_leaves_it_there(neovim: Editor) -> None:
    neovim.setup()
    neovim.ready()
    neovim.type("Goprint()<Left>")
    neovim.type("shelf.")
    neovim.wait_ghost(ALL)
    assert "    print(shelf.add(item, amount))" in neovim.screen()
    neovim.type("<Tab>")
    neovim.wait_line(-1, "    print(shelf.add(item, amount))")


def test_file_with_carriage_returns_keeps_them(neovim: Editor) -> None:
    file = write(neovim.file, neovim.file.read_text().replace("\n", "\r\n"))
    neovim.setup()
    neovim.ready()
    assert neovim.call("nvim_eval", "&fileformat") == "dos"
    typed(neovim)
    neovim.type("<Tab>")
    neovim.wait_line(-1, "    shelf.add(item, amount)")
    neovim.type("<Esc>")
    neovim.command("write")
    assert file.read_bytes().endswith(b"amount):\r\n    shelf.add(item, amount)\r\n")


def test_second_file_gets_suggestions_too(neovim: Editor) -> None:
    neovim.setup()
    neovim.ready()
    other = write(neovim.file.with_name("other.py"), neovim.file.read_text())
    neovim.command(f"edit {other}")
    attached = "return #require('qcoder.client').all(vim.api.nvim_get_current_buf())"
    neovim.wait("client", lambda: neovim.lua(attached) == 1)
    typed(neovim)
    assert len(neovim.home.server_pids()) == 1


def test_only_the_plugin_draws_where_the_user_has_turned_inline_completion_on(
    new_neovim: Editor,
) -> None:
    new_neovim.lua("vim.lsp.inline_completion.enable()")
    new_neovim.setup()
    new_neovim.ready()
    typed(new_neovim)
    enabled = "return vim.lsp.inline_completion.is_enabled({ bufnr = 0, client_id = ... })"
    (client,) = new_neovim.lua(
        "return vim.tbl_map(function(c) return c.id end, vim.lsp.get_clients())"
    )
    assert not new_neovim.lua(enabled, client)


def test_readme_set_up_without_the_plugin_works(new_neovim: Editor) -> None:
    neovim = new_neovim
    neovim.command(f"set runtimepath-={PLUGIN}")
    neovim.lua(readme_block("Neovim", "lua", 1))
    neovim.lua("vim.lsp.handlers['qcoder/status'] = function(_, s) vim.g.kind = s.kind end")
    neovim.command(f"edit {neovim.file}")
    neovim.wait("ready server", lambda: neovim.call("nvim_eval", "get(g:, 'kind')") == "Normal")
    neovim.type("Goshelf.")
    neovim.wait_ghost(ALL)
    neovim.type("<Tab>")
    neovim.wait_line(-1, "    shelf.add(item, amount)")
