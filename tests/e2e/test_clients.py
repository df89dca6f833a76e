"""The server under the capabilities of real editors, through pytest-lsp."""

import os
import sys
import tempfile
from pathlib import Path

import pytest
import pytest_lsp
from lsprotocol import types
from pytest_lsp import ClientServerConfig, LanguageClient, client_capabilities

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="function")]

COMMAND = [sys.executable, "-P", "-m", "qcoder.lsp_server.lsp_cli", "--stdio"]
LEAK = "def load(path):\n    handle = open(path)\n    return handle.read()\n"


@pytest_lsp.fixture(
    config=ClientServerConfig(
        server_command=COMMAND,
        server_env={
            **os.environ,
            "QCODER_ENGINE": "fake:compute(1)",
            "XDG_DATA_HOME": tempfile.gettempdir() + "/qcoder-tests",  # not the user's statistics
        },
    ),
    params=["neovim", "visual-studio-code", "emacs"],
)
async def client(request: pytest.FixtureRequest, lsp_client: LanguageClient, tmp_path: Path):
    lsp_client.feature(types.CLIENT_REGISTER_CAPABILITY)(lambda params: None)
    await lsp_client.initialize_session(
        types.InitializeParams(
            capabilities=client_capabilities(request.param), root_uri=tmp_path.as_uri()
        )
    )
    yield
    await lsp_client.shutdown_session()


async def test_review_reaches_every_editor(client: LanguageClient, tmp_path: Path) -> None:
    uri = (tmp_path / "leaky.py").as_uri()
    client.text_document_did_open(
        types.DidOpenTextDocumentParams(types.TextDocumentItem(uri, "python", 1, LEAK))
    )
    await client.wait_for_notification(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
    assert [d.code for d in client.diagnostics[uri]] == ["resource-leak"]


async def test_unopened_document_is_answered_with_null(client: LanguageClient) -> None:
    answer = await client.text_document_inline_completion_async(
        types.InlineCompletionParams(
            context=types.InlineCompletionContext(types.InlineCompletionTriggerKind.Invoked),
            text_document=types.TextDocumentIdentifier("file:///not/open.py"),
            position=types.Position(0, 0),
        )
    )
    assert answer is None
