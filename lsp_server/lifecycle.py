"""Handlers of the session's life: initialize, settings, documents, files, folders, shutdown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lsprotocol import types

from qcoder.lsp_server import convert, diagnostics
from qcoder.lsp_server.documents import ProtocolWorkspace, rows_of
from qcoder.lsp_server.jobs import post
from qcoder.lsp_server.lsp_cli import follow_client
from qcoder.lsp_server.notebooks import Spot
from qcoder.lsp_server.server import QcoderServer
from qcoder.lsp_server.settings import FILE_NAME

logger = logging.getLogger(__name__)

CONFIGURATION_WAIT_S = 1.0
"""How long the model waits for the client's settings: a client may never answer."""

EVERY_FILE = types.FileOperationRegistrationOptions(
    [types.FileOperationFilter(types.FileOperationPattern("**/*"), scheme="file")]
)


def register_lifecycle(server: QcoderServer) -> None:
    """Initialize, settings, folders, shutdown."""

    @server.feature(types.INITIALIZE)
    def initialize(ls: QcoderServer, params: types.InitializeParams) -> None:
        ls.loop = asyncio.get_running_loop()
        old = ls.protocol._workspace
        assert old is not None
        folders = params.workspace_folders or []
        ls.protocol._workspace = ProtocolWorkspace.replacing(old, folders)
        root = old.root_uri  # also made from the old rootPath
        ls.roots = folders_of([f.uri for f in folders] or ([root] if root else []))
        ls.options, ls.trusted = read_options(params.initialization_options)
        ls.session.on_settings_file = partial(post, ls.loop, apply_settings, ls)
        diagnostics.choose_way(ls)
        if params.process_id is not None and params.process_id > 0:
            follow_client(params.process_id)

    @server.feature(types.INITIALIZED)
    async def initialized(ls: QcoderServer, params: types.InitializedParams) -> None:
        workspace = ls.client_capabilities.workspace
        if workspace and workspace.configuration:
            # Asked first, so that a model is not loaded only to be replaced.
            await asyncio.wait([asyncio.ensure_future(pull(ls))], timeout=CONFIGURATION_WAIT_S)
        watched = workspace.did_change_watched_files if workspace else None
        by_client = bool(watched and watched.dynamic_registration)
        ls.session.start(ls.roots, ls.read_settings(), watch=not by_client)
        ls.keep_usage_regularly()
        if by_client:
            await asked(ls.client_register_capability_async(watch_every_file()))

    @server.feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)
    async def configured(ls: QcoderServer, params: types.DidChangeConfigurationParams) -> None:
        workspace = ls.client_capabilities.workspace
        if workspace and workspace.configuration:
            await pull(ls)
        elif isinstance(params.settings, dict):
            ls.options, _ = read_options(params.settings.get("qcoder", params.settings))
            apply_settings(ls)

    @server.feature(types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS)
    def folders_changed(ls: QcoderServer, params: types.DidChangeWorkspaceFoldersParams) -> None:
        added = folders_of(folder.uri for folder in params.event.added)
        removed = folders_of(folder.uri for folder in params.event.removed)
        ls.roots = [r for r in ls.roots if r not in removed]
        ls.roots += [r for r in added if r not in ls.roots]
        apply_settings(ls)
        ls.session.change_folders(added, removed)

    @server.feature(types.SHUTDOWN)
    def shutdown(ls: QcoderServer, params: None = None) -> None:
        ls.session.stop()
        ls.keep_usage()


def register_documents(server: QcoderServer) -> None:
    """Document synchronization; `diagnostics.py` hears of the same events for its reviews."""

    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def opened(ls: QcoderServer, params: types.DidOpenTextDocumentParams) -> None:
        follow(ls, params.text_document.uri)
        diagnostics.review_opened(ls, params.text_document.uri)

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    def changed(ls: QcoderServer, params: types.DidChangeTextDocumentParams) -> None:
        edited(ls, params.text_document.uri, params.content_changes)
        diagnostics.review_typed(ls, params.text_document.uri)

    @server.feature(types.TEXT_DOCUMENT_DID_SAVE)
    def saved(ls: QcoderServer, params: types.DidSaveTextDocumentParams) -> None:
        if ls.session.settings.review.on_save:
            diagnostics.review_again(ls, params.text_document.uri)

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def closed(ls: QcoderServer, params: types.DidCloseTextDocumentParams) -> None:
        forget(ls, params.text_document.uri)
        diagnostics.forget(ls, params.text_document.uri)


def register_notebooks(server: QcoderServer) -> None:
    """Notebook synchronization; pygls keeps the cells."""

    @server.feature(types.NOTEBOOK_DOCUMENT_DID_CHANGE)
    def changed(ls: QcoderServer, params: types.DidChangeNotebookDocumentParams) -> None:
        cells = params.change.cells
        for content in (cells.text_content or ()) if cells is not None else ():
            edited(ls, content.document.uri, content.changes)

    @server.feature(types.NOTEBOOK_DOCUMENT_DID_CLOSE)
    def closed(ls: QcoderServer, params: types.DidCloseNotebookDocumentParams) -> None:
        forget(ls, params.notebook_document.uri)


def register_files(server: QcoderServer) -> None:
    """What happens to files outside of their documents."""

    @server.feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    def watched(ls: QcoderServer, params: types.DidChangeWatchedFilesParams) -> None:
        files_changed(ls, (change.uri for change in params.changes))

    @server.feature(types.WORKSPACE_DID_CREATE_FILES, EVERY_FILE)
    def created(ls: QcoderServer, params: types.CreateFilesParams) -> None:
        files_changed(ls, (file.uri for file in params.files))

    @server.feature(types.WORKSPACE_DID_DELETE_FILES, EVERY_FILE)
    def deleted(ls: QcoderServer, params: types.DeleteFilesParams) -> None:
        files_changed(ls, (file.uri for file in params.files))

    @server.feature(types.WORKSPACE_DID_RENAME_FILES, EVERY_FILE)
    def renamed(ls: QcoderServer, params: types.RenameFilesParams) -> None:
        files_changed(ls, (uri for f in params.files for uri in (f.old_uri, f.new_uri)))


def forget(ls: QcoderServer, uri: str) -> None:
    """A document or notebook was closed."""
    path = convert.path_of(uri)
    if path is not None:
        ls.session.forget(uri, path)
    ls.completions.forget(uri)


def follow(ls: QcoderServer, uri: str) -> Spot | None:
    """Bring the session up to a document or the notebook of a cell; gives what it is."""
    spot = ls.spot(uri)
    path = convert.path_of(spot.snapshot.document.uri) if spot is not None else None
    if spot is not None and path is not None:
        ls.session.note_change(path, spot.snapshot.document)
    return spot


def edited(
    ls: QcoderServer, uri: str, changes: Sequence[types.TextDocumentContentChangeEvent]
) -> None:
    """A document or cell has changed: the session, what is shown and what is expected follow."""
    spot = follow(ls, uri)
    if spot is None or not changes:
        return
    track(ls, spot, changes)
    cursor = convert.cursor_after(ls.workspace.position_codec, changes[-1])
    if cursor is not None:
        expect(ls, spot, cursor)


def track(
    ls: QcoderServer, spot: Spot, changes: Sequence[types.TextDocumentContentChangeEvent]
) -> None:
    """An edit says what becomes of the suggestion that is shown, and where accepted ones went."""
    document, down = spot.snapshot.document, spot.first_line
    for change in changes:
        if isinstance(change, types.TextDocumentContentChangePartial):
            rows = change.range.start.line + down, change.range.end.line + down
            ls.acceptance.moved(document.uri, *rows, len(rows_of(change.text)) - 1)
    ls.acceptance.changed(document.uri, document.text)


def expect(ls: QcoderServer, spot: Spot, cursor: types.Position) -> None:
    """The user types there: a request for a completion is likely to come."""
    engine, snapshot = ls.session.engine, spot.snapshot
    if engine is not None and snapshot.settings.completion.enabled:
        line, column = convert.from_position(ls.workspace.position_codec, spot.rows, cursor)
        ls.completions.expect(snapshot, line + spot.first_line, column, engine)


def files_changed(ls: QcoderServer, uris: Iterable[str]) -> None:
    """Files came, went or changed; each is looked at once, however often it is named."""
    paths = [path for path in map(convert.path_of, dict.fromkeys(uris)) if path is not None]
    ls.session.files_changed(paths)
    if any(path.name == FILE_NAME for path in paths):
        apply_settings(ls)


def folders_of(uris: Iterable[str]) -> list[Path]:
    """Real paths of the folders that exist."""
    paths = (path for uri in uris if (path := convert.path_of(uri)) is not None)
    return list(dict.fromkeys(path.resolve() for path in paths if path.is_dir()))


def read_options(sent: Any) -> tuple[dict[str, Any], bool]:
    """What a client sends as settings, and whether it says that the user trusts the workspace."""
    options = dict(sent) if isinstance(sent, dict) else {}
    return options, options.pop("trusted", None) is True


def apply_settings(ls: QcoderServer) -> None:
    """Read all settings again and let everything follow them."""
    old, new = ls.session.settings, ls.read_settings()
    ls.session.apply(new)
    if (old.review, old.privacy) != (new.review, new.privacy):
        diagnostics.review_all(ls)


async def pull(ls: QcoderServer) -> None:
    """Ask the client for its settings and apply them.

    They take the place of all earlier ones, so that what a user removes has its default again. A
    client that answers with nothing has its settings in the initialization options.
    """
    item = types.ConfigurationItem(section="qcoder")
    answer = await asked(ls.workspace_configuration_async(types.ConfigurationParams([item])))
    options = answer[0] if isinstance(answer, list | tuple) and answer else None
    if isinstance(options, dict) and (options or ls.pulls_settings):
        ls.pulls_settings = True
        ls.options, _ = read_options(options)
    apply_settings(ls)


async def asked(answer: Awaitable[Any]) -> Any:
    """Await a client's answer; None when it refuses."""
    try:
        # Shielded: pygls raises when an answer comes for an await that was cancelled.
        return await asyncio.shield(answer)
    except Exception as error:  # the client's boundary
        logger.warning("the client refused a request: %s", type(error).__name__)
        return None


def watch_every_file() -> types.RegistrationParams:
    """The registration for events of all files."""
    options = types.DidChangeWatchedFilesRegistrationOptions([types.FileSystemWatcher("**/*")])
    return types.RegistrationParams(
        [types.Registration("qcoder-watch", types.WORKSPACE_DID_CHANGE_WATCHED_FILES, options)]
    )
