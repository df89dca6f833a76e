"""Real editors for the tests: where they are, what they run in, the set-up that README.md shows."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[1]
SERVER = Path(sys.executable).with_name("qcoder-lsp")
PLUGIN = ROOT / "editors" / "nvim"
TIMEOUT_S = 60
SCRIPT = "fake:add(item, amount)\x1eadd(amount, item)\x1etake(item)"
SOURCE = '''"""Shelves."""


def load(path):
    handle = open(path)
    return handle.read()


def restock(shelf, item, amount):
'''


def missing(reason: str) -> NoReturn:
    """Skip for want of an editor; fail where it was to be tested (`make e2e-...`)."""
    if os.environ.get("QCODER_EDITORS_REQUIRED"):
        pytest.fail(reason)
    pytest.skip(reason)


def unpacked(name: str) -> str | None:
    """An editor that `get_editors.sh` has unpacked."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = Path(os.environ.get("QCODER_EDITORS") or cache / "qcoder-editors")
    return shutil.which(str(home / "sid" / "wrap" / name))


def nvim_version(path: str) -> tuple[int, int]:
    """Major and minor version."""
    banner = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.match(r"NVIM v(\d+)\.(\d+)", banner)
    assert found, banner
    return int(found[1]), int(found[2])


def find_nvim(variable: str, fits: Callable[[tuple[int, int]], bool], what: str) -> str:
    """The Neovim that a variable names, else a fitting one."""
    for path in (os.environ.get(variable), unpacked("nvim"), shutil.which("nvim"), "/usr/bin/nvim"):
        if path and shutil.which(path) and fits(nvim_version(path)):
            return path
    missing(f"no Neovim {what}; {variable} may name one")


@dataclass(frozen=True, slots=True)
class Home:
    """A place where an editor finds nothing of the user's, and `qcoder-lsp` on its PATH."""

    folder: Path
    script: str = SCRIPT

    @property
    def workspace(self) -> Path:
        """The folder that is edited."""
        return self.folder / "workspace"

    @property
    def config(self) -> Path:
        """`XDG_CONFIG_HOME`."""
        return self.folder / "CONFIG"

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the editor's process."""
        names = ("CONFIG", "DATA", "STATE", "CACHE")
        return {
            **os.environ,
            **{f"XDG_{name}_HOME": str(self.folder / name) for name in names},
            "HOME": str(self.folder),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "QCODER_ENGINE": self.script,
        }

    def server_pids(self) -> list[int]:
        """Processes of all servers that were started here and have not ended."""
        started = self.folder / "servers"
        pids = [int(line) for line in started.read_text().split()] if started.exists() else []
        return [pid for pid in pids if is_running(pid)]


def make_home(folder: Path, script: str = SCRIPT) -> Home:
    """A home with a workspace of one file, `shelves.py`; the engine says what the script says."""
    home = Home(folder, script)
    for needed in (home.workspace, home.config, folder / "bin"):
        needed.mkdir(parents=True)
    (home.workspace / "qcoder.toml").write_text("")
    (home.workspace / "shelves.py").write_text(SOURCE)
    (home.workspace / ".git").mkdir()
    server = folder / "bin" / "qcoder-lsp"
    server.write_text(f"#!/bin/sh\necho $$ >> '{folder}/servers'\nexec '{SERVER}' \"$@\"\n")
    server.chmod(server.stat().st_mode | stat.S_IXUSR)
    return home


def is_running(pid: int) -> bool:
    """Whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(what: str, condition: Callable[[], Any], told: Callable[[], str] = str) -> Any:
    """The condition's first truth; polls, since editors tell nobody what they have shown."""
    end = time.monotonic() + TIMEOUT_S
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"no {what} in {TIMEOUT_S} s; {told()}")
        time.sleep(0.02)
    return value


def readme_block(editor: str, language: str, number: int = 0) -> str:
    """A block of code below an editor's name in README.md."""
    text = (ROOT / "README.md").read_text("utf-8")
    section = re.split(r"\n\*\*(?=[A-Z])", text[text.index(f"\n**{editor}") + 3 :])[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)[number]
