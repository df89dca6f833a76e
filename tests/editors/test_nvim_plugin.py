"""The Neovim plugin names what the server has."""

from __future__ import annotations

import re
from pathlib import Path

from qcoder.lsp_server import protocol
from qcoder.lsp_server.cli_stats import ROWS

PLUGIN = Path(__file__).resolve().parents[2] / "editors" / "nvim"
LUA = {path.stem: path.read_text("utf-8") for path in (PLUGIN / "lua" / "qcoder").glob("*.lua")}


def test_every_message_and_command_is_the_servers() -> None:
    known = {value for name, value in vars(protocol).items() if name.isupper()}
    used = set(re.findall(r"'(qcoder[./][a-zA-Z]+)'", "\n".join(LUA.values())))
    ours = {"qcoder.toml", *(f"qcoder.{name}" for name in LUA)}
    assert used - ours - known == set()
    assert protocol.EXPLAIN_LAST in used


def test_the_page_of_statistics_shows_what_the_command_line_shows() -> None:
    shown = re.findall(r"^  \{ '(\w+)', '(.+?)'(?:, '(.+?)')? \},$", LUA["pages"], re.MULTILINE)
    assert shown == list(ROWS)


def test_the_help_file_describes_every_command() -> None:
    page = (PLUGIN / "doc" / "qcoder.txt").read_text("utf-8")
    table = LUA["commands"].split("M.commands = {")[1]
    commands = re.findall(r"^  (\w+) = ", table, re.MULTILINE)
    described = re.findall(r"\*:Qcoder-(\w+)\*", page)
    assert sorted(described) == sorted(commands)
    assert max(map(len, page.splitlines())) <= 78
