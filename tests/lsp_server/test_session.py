"""Which model a session loads."""

from __future__ import annotations

import json
import queue
from pathlib import Path
from typing import Any

import pytest

from qcoder.lsp_server import session as session_module
from qcoder.lsp_server.session import Session
from qcoder.lsp_server.settings import ModelSettings, Settings
from qcoder.model import adapted
from qcoder.model.fake import FakeEngine
from qcoder.model.registry import DEFAULT_FOLDER


def trained_on(root: Path) -> str:
    """Install something that counts as the model of a workspace."""
    staged = adapted.stage(root)
    facts = {
        "workspace": str(root),
        "base": "default",
        "base_sha256": adapted.base_checksum(DEFAULT_FOLDER),
    }
    (staged / "MANIFEST.json").write_text(json.dumps({adapted.SECTION: facts, "files": {}}))
    return str(adapted.install(staged, root))


@pytest.mark.parametrize(
    ("folders", "wanted", "uses_adapted"),
    [
        (["mine"], ModelSettings(), True),
        (["mine"], ModelSettings(adapted=False), False),
        (["mine"], ModelSettings(name="other"), False),
        (["other"], ModelSettings(), False),
        (["mine", "other"], ModelSettings(), False),
        ([], ModelSettings(), False),
    ],
)
def test_the_only_folder_of_a_session_brings_its_model(
    folders: list[str],
    wanted: ModelSettings,
    uses_adapted: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
    place = trained_on(tmp_path / "mine")
    loaded: queue.Queue[str] = queue.Queue()

    def load(name: str, *arguments: Any, **options: Any) -> FakeEngine:
        loaded.put(name)
        return FakeEngine(["text"])

    monkeypatch.setattr(session_module.Engine, "load", staticmethod(load))
    session = Session(lambda status: None)
    try:
        session.start([tmp_path / f for f in folders], Settings(model=wanted), watch=False)
        assert loaded.get(timeout=30) == (place if uses_adapted else wanted.name)
    finally:
        session.stop()
