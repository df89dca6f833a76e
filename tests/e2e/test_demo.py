"""The demo drives a real server process and judges itself."""

import pytest

from qcoder.lsp_server.cli import main

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(("answer", "code"), [("value, 1)", 0), ("", 1)])
def test_demo_succeeds_only_with_all_its_parts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str, code: int
) -> None:
    monkeypatch.setenv("QCODER_ENGINE", f"fake:{answer}")
    assert main(["demo"]) == code
    out = capsys.readouterr().out
    assert "resource-leak" in out
    assert "Return the weighted mean." in out
    assert out.count(" ms  (") >= (5 if code == 0 else 0)
