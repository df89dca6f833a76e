"""Handlers of the session's life: initialize, settings, documents, watched files, shutdown."""

from __future__ import annotations

import asyncio

from lsprotocol import types

from qcoder.lsp_server import convert
from qcoder.lsp_server.documents import ProtocolWorkspace
from qcoder.lsp_server.server import QcoderServer


def register_lifecycle(server: QcoderServer) -> None:
    """Initialize, settings, files, shutdown."""

    @server.feature(types.INITIALIZE)
    def initialize(ls: QcoderServer, params: types.InitializeParams) -> None:
        ls.loop = asyncio.get_running_loop()
        old = ls.protocol._workspace
        assert old is not None
        folders = params.workspace_folders or []
        ls.protocol._workspace = ProtocolWorkspace.replacing(old, folders)
        uri = folders[0].uri if folders else params.root_uri
        path = convert.path_of(uri) if uri else None
        ls.session.root = path.resolve() if path is not None and path.is_dir() else None
        options = params.initialization_options
        ls.options = dict(options) if isinstance(options, dict) else {}

    @server.feature(types.INITIALIZED)
    async def initialized(ls: QcoderServer, params: types.InitializedParams) -> None:
        ls.read_settings()
        workspace = ls.client_capabilities.workspace
        watched = workspace.did_change_watched_files if workspace else None
        by_client = bool(watched and watched.dynamic_registration)
        ls.session.start(ls.session.root, ls.session.settings, watch=not by_client)
        if by_client:
            registration = types.Registration(
                "qcoder-watch",
                types.WORKSPACE_DID_CHANGE_WATCHED_FILES,
                types.DidChangeWatchedFilesRegistrationOptions([types.FileSystemWatcher("**/*")]),
            )
            # Shielded: pygls raises when an answer comes for an await that was cancelled.
            await asyncio.shield(
                ls.client_register_capability_async(types.RegistrationParams([registration]))
            )
        if workspace and workspace.configuration:
            await pull_settings(ls)

    async def pull_settings(ls: QcoderServer) -> None:
        item = types.ConfigurationItem(section="qcoder")
        answer = await asyncio.shield(
            ls.workspace_configuration_async(types.ConfigurationParams([item]))
        )
        if answer and isinstance(answer[0], dict):
            ls.options = {**ls.options, **answer[0]}
            ls.read_settings()

    @server.feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)
    async def configured(ls: QcoderServer, params: types.DidChangeConfigurationParams) -> None:
        workspace = ls.client_capabilities.workspace
        if workspace and workspace.configuration:
            await pull_settings(ls)
        elif isinstance(params.settings, dict):
            ls.options = dict(params.settings.get("qcoder", params.settings))
            ls.read_settings()

    @server.feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    def watched(ls: QcoderServer, params: types.DidChangeWatchedFilesParams) -> None:
        paths = {convert.path_of(change.uri) for change in params.changes}
        ls.session.files_changed([p for p in paths if p is not None])

    @server.feature(types.SHUTDOWN)
    def shutdown(ls: QcoderServer, params: None = None) -> None:
        ls.session.stop()


def register_documents(server: QcoderServer) -> None:
    """Document synchronization."""

    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def opened(ls: QcoderServer, params: types.DidOpenTextDocumentParams) -> None:
        follow(ls, params.text_document.uri)
        ls.review(params.text_document.uri, with_model=False)

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    def changed(ls: QcoderServer, params: types.DidChangeTextDocumentParams) -> None:
        follow(ls, params.text_document.uri)

    def follow(ls: QcoderServer, uri: str) -> None:
        snapshot = ls.snapshot(uri)
        if snapshot is not None:
            ls.session.note_change(snapshot)

    @server.feature(types.TEXT_DOCUMENT_DID_SAVE)
    def saved(ls: QcoderServer, params: types.DidSaveTextDocumentParams) -> None:
        if ls.session.settings.review.on_save:
            ls.review(params.text_document.uri, with_model=True)

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def closed(ls: QcoderServer, params: types.DidCloseTextDocumentParams) -> None:
        uri = params.text_document.uri
        path = convert.path_of(uri)
        if path is not None:
            ls.session.forget(uri, path)
        ls.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, []))
