"""A real Helix in a terminal, set up as README.md says, against a server with a scripted engine.

Run by `make e2e-helix`. Keys go into a pseudo-terminal, what is on the screen is read from a
terminal emulator. `QCODER_HX` names another program than the one found.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pyte
import pytest
from editors_at_hand import SOURCE, Home, make_home, missing, readme_block, unpacked, wait_for

pytestmark = pytest.mark.e2e

ROWS, COLUMNS = 30, 120
ESCAPE, ENTER, TAB, CONTROL_X = "\x1b", "\r", "\t", "\x18"


class Silent(pyte.Screen):
    """A screen that answers no questions about itself."""

    def report_device_status(self, *arguments: object, **options: object) -> None:
        """Say nothing."""

    def report_device_attributes(self, *arguments: object, **options: object) -> None:
        """Say nothing."""


class Editor:
    """A running Helix with an open file."""

    def __init__(self, path: str, home: Home) -> None:
        self.home = home
        self.file = home.workspace / "shelves.py"
        environment = {**home.environment, "TERM": "xterm-256color"}
        self.child = pexpect.spawn(
            path, [str(self.file)], env=environment, cwd=home.workspace, dimensions=(ROWS, COLUMNS)
        )
        self._screen = Silent(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self._screen)

    def screen(self) -> str:
        """What is to be seen now."""
        try:
            while True:
                self._stream.feed(self.child.read_nonblocking(65536, timeout=0))
        except (pexpect.TIMEOUT, pexpect.EOF):
            return "\n".join(line.rstrip() for line in self._screen.display)

    def wait(self, what: str, condition: Callable[[str], object]) -> None:
        """Until the screen is so."""
        wait_for(what, lambda: condition(self.screen()), lambda: f"the screen:\n{self.screen()}")

    def type(self, *keys: str) -> None:
        """Press keys."""
        for key in keys:
            self.child.send(key)

    def saved(self) -> str:
        """The file's text after writing it."""
        self.type(ESCAPE, ":w", ENTER)
        self.wait("written file", lambda screen: "written" in screen)
        return self.file.read_text()


def helix() -> str:
    """Path of the program, or skip with the reason."""
    path = os.environ.get("QCODER_HX") or unpacked("hx") or shutil.which("hx") or ""
    return path or missing("no Helix: tests/e2e/get_editors.sh hx, or QCODER_HX names one")


@pytest.fixture
def editor(tmp_path: Path) -> Iterator[Editor]:
    """Helix with the set-up of README.md; it leaves no server behind."""
    path, home = helix(), make_home(tmp_path)
    (home.config / "helix").mkdir()
    (home.config / "helix" / "languages.toml").write_text(readme_block("Helix", "toml"), "utf-8")
    editor = Editor(path, home)
    try:
        wait_for("server", home.server_pids, editor.screen)
        editor.wait("mark at the finding's line", lambda screen: re.search(r"●\s+5 ", screen))
        yield editor
        editor.type(ESCAPE, ":q!", ENTER)
        wait_for("end of the editor", lambda: not editor.child.isalive(), editor.screen)
        wait_for("end of the server", lambda: not home.server_pids())
    finally:
        editor.child.close(force=True)


def test_finding_is_shown_at_its_line(editor: Editor) -> None:
    editor.type("5gg")
    editor.wait("finding's text", lambda screen: "`handle` is still open" in screen)


def test_completion_of_the_menu_is_inserted(editor: Editor) -> None:
    editor.type("geo", "    shelf.")
    editor.wait("typed text", lambda screen: "shelf." in screen)
    editor.type(CONTROL_X)
    editor.wait("menu", lambda screen: "add(item, amount)" in screen)
    editor.type(TAB)
    editor.wait("preview", lambda screen: "shelf.add(item, amount)" in screen)
    editor.type(ENTER)
    assert editor.saved() == SOURCE + "    shelf.add(item, amount)\n"


def test_code_action_writes_a_docstring(editor: Editor) -> None:
    editor.type("4gg", " a")
    editor.wait("menu", lambda screen: "Generate docstring for load" in screen)
    editor.type(ENTER)
    editor.wait("docstring", lambda screen: screen.count('"""') >= 3)
    assert 'def load(path):\n    """' in editor.saved()


def test_command_reviews_what_the_last_commit_has_not(editor: Editor) -> None:
    folder = editor.home.workspace
    shutil.rmtree(folder / ".git")
    name = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init"], ["add", "qcoder.toml"], ["commit", "-m", "all"], ["add", "."]):
        subprocess.run(["git", *name, *command], cwd=folder, check=True, capture_output=True)
    editor.type(":lsp-workspace-command qcoder.reviewSinceCommit", ENTER)
    editor.wait("count", lambda screen: "1 finding" in screen)
