"""From the settings to the engine of a remote server, for editors and commands alike."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from qcoder.model.errors import RemoteError

if TYPE_CHECKING:
    from qcoder.lsp_server.settings import RemoteSettings, Settings
    from qcoder.model.engine import Engine


def remote_engine(settings: Settings) -> Engine | None:
    """The engine of `remote.url`, None when that is empty; raises `RemoteError`.

    The server is asked which models it has, so that wrong settings are said at once.
    """
    wanted = settings.remote
    if not wanted.url:
        return None
    from qcoder.model.remote import RemoteEngine, RemoteOptions  # only where one is wanted

    return RemoteEngine.connect(
        RemoteOptions(
            url=wanted.url,
            model=wanted.model,
            kind=wanted.kind,
            fim_format=wanted.fim_format,
            api_key=api_key(wanted),
            max_context=settings.model.max_context,
            tokenizer=wanted.tokenizer,
            timeout_s=wanted.timeout_s,
            allow_http=wanted.allow_http,
        )
    )


def api_key(wanted: RemoteSettings) -> str:
    """The key from the environment variable that the settings name, "" for none."""
    if not wanted.api_key_env:
        return ""
    key = os.environ.get(wanted.api_key_env, "").strip()
    if not key:
        raise RemoteError(
            f"the environment variable {wanted.api_key_env!r}, which remote.api_key_env names, is "
            "not set where the server runs"
        )
    return key
