"""Neovims for the tests, each with a workspace and a server of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from editors_at_hand import SCRIPT, find_nvim, make_home, wait_for
from neovim_editor import BLOCK, Editor, started

FIND = {
    "new": lambda: find_nvim("QCODER_NVIM", lambda v: v >= (0, 12), "0.12 or newer"),
    "old": lambda: find_nvim("QCODER_NVIM_OLD", lambda v: (0, 7) <= v < (0, 11), "0.7 to 0.10"),
}


def opened(age: str, tmp_path: Path, script: str = SCRIPT) -> Iterator[Editor]:
    home = make_home(tmp_path, script)
    with started(FIND[age](), home) as editor:
        yield editor
        editor.quit()
    wait_for("end of the server", lambda: not home.server_pids())


@pytest.fixture(params=["new", "old"])
def neovim(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Editor]:
    """Each Neovim in turn; it leaves no server behind."""
    yield from opened(request.param, tmp_path)


@pytest.fixture(params=["new", "old"])
def block_neovim(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Editor]:
    """The same with a model that suggests several lines."""
    yield from opened(request.param, tmp_path, f"fake:{BLOCK}")


@pytest.fixture
def new_neovim(tmp_path: Path) -> Iterator[Editor]:
    """A Neovim with inline completion of its own."""
    yield from opened("new", tmp_path)
