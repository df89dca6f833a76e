"""A real Emacs with eglot, set up as README.md says, against a server with a scripted engine.

Run by `make e2e-emacs`. One session (`eglot_session.el`) is looked at from several sides.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from editors_at_hand import TIMEOUT_S, make_home, missing, readme_block, wait_for

pytestmark = pytest.mark.e2e

DRIVER = Path(__file__).with_name("eglot_session.el")
HAS_EGLOT = "(progn (require 'package) (package-initialize) (require 'eglot))"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a user sees: opens a file, completes, documents, reviews, closes it."""
    emacs = shutil.which("emacs")
    if emacs is None:
        missing("no emacs on PATH: apt-get install emacs-nox elpa-eglot")
    home = make_home(tmp_path_factory.mktemp("emacs"))
    run = [emacs, "--batch", "-q"]
    options: dict[str, Any] = {"env": home.environment, "capture_output": True, "text": True}
    if subprocess.run([*run, "--eval", HAS_EGLOT], check=False, **options).returncode:
        missing("Emacs has no eglot: apt-get install elpa-eglot, or Emacs 29")
    set_up = home.folder / "set_up.el"
    set_up.write_text(readme_block("Emacs", "elisp"), "utf-8")
    file = home.workspace / "shelves.py"
    run += ["-l", str(DRIVER), str(set_up), str(file)]
    done = subprocess.run(run, check=False, timeout=4 * TIMEOUT_S, **options)
    assert done.returncode == 0, done.stderr
    wait_for("end of the server", lambda: not home.server_pids())
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "messages": done.stderr}


def test_the_set_up_names_many_languages(seen: dict[str, Any]) -> None:
    assert seen["languages_of_set_up"] > 10


def test_findings_are_diagnostics(seen: dict[str, Any]) -> None:
    assert any("resource-leak" in text or "open" in text for text in seen["diagnostics"])


def test_completion_at_point_inserts_the_suggestion(seen: dict[str, Any]) -> None:
    assert seen["completed"].endswith("    shelf.add(item, amount)")


def test_code_action_writes_a_docstring(seen: dict[str, Any]) -> None:
    assert 'def load(path):\n    """' in seen["documented"]


def test_review_command_reviews_again(seen: dict[str, Any]) -> None:
    assert seen["reviewed_again"]


def test_closing_the_file_ends_the_server(seen: dict[str, Any]) -> None:
    assert seen["ended"]
