"""The command that reviews what the last commit has not, in files that are open and in others.

Findings of files that are not open are sent once, and taken back when such a file is opened (its own
review then says what is in it) or when the command runs again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lsprotocol import types

from qcoder.context.privacy import exclude_spec, refused
from qcoder.lsp_server import convert, diagnostics, jobs, protocol
from qcoder.lsp_server.assist_actions import say
from qcoder.lsp_server.changes import since, top_level
from qcoder.lsp_server.documents import rows_of
from qcoder.lsp_server.headless import InputError, read_text
from qcoder.lsp_server.review import is_reviewed, review_document
from qcoder.lsp_server.server import QcoderServer
from qcoder.lsp_server.snapshot import Finding, Snapshot
from qcoder.lsp_server.work_progress import WorkProgress
from qcoder.model.engine import Engine
from qcoder.model.request import CancelToken, Priority

KEY = "review of changes"


def register_review_changes(server: QcoderServer) -> None:
    """The command itself."""

    @server.command(protocol.COMMAND_REVIEW_CHANGES)
    async def review_changes(ls: QcoderServer) -> dict[str, int] | None:
        take_back(ls)
        exclude = ls.session.settings.privacy.exclude
        found = await jobs.attempt(
            ls.session.rules_thread,
            KEY,
            Priority.REVIEW,
            lambda _: changed_files(tuple(ls.roots), exclude),
        )
        if not isinstance(found, list):
            say(ls, found or "The changes could not be listed; see the log.", good=False)
            return None
        counts = await review_files(ls, found)
        if counts is not None:
            say(ls, summary(counts), good=True)
        return counts


def take_back(ls: QcoderServer) -> None:
    """Forget what was sent about files that are not open."""
    for uri in ls.unopened_findings.values():
        ls.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, []))
    ls.unopened_findings.clear()


def changed_files(roots: Sequence[Path], exclude: Sequence[str]) -> list[Path] | str:
    """Changed files under `roots` that may be read and that some rule knows, or what is wrong."""
    spec, found = exclude_spec(tuple(exclude)), dict[Path, None]()
    if not roots:
        return "Open a folder to review its changes."
    for root in roots:
        try:
            top = top_level(root)
            paths = [file.path for file in since(top, "HEAD")]
        except InputError as error:
            return str(error)
        inside = (top / path for path in paths if is_reviewed(path))
        for path in inside:
            if path.is_relative_to(root.resolve()) or path.is_relative_to(root):
                relative = path.relative_to(top).as_posix()
                if refused(relative, None, spec) is None:
                    found[path] = None
    return list(found)


async def review_files(ls: QcoderServer, paths: Sequence[Path]) -> dict[str, int] | None:
    """Review each file's changed lines and send what is found; None when the user cancels."""
    stop = CancelToken()
    thread = ls.session.engine_thread
    counts = {"files": len(paths), "files_with_findings": 0, "findings": 0}

    def cancel() -> None:
        stop.cancel()
        thread.cancel(KEY)

    progress = WorkProgress(ls, "qcoder: reviewing changes", cancel)
    try:
        for done, path in enumerate(paths):
            progress.report(done, len(paths))
            findings = await review_file(ls, path)
            if stop.cancelled:
                return None
            counts["findings"] += len(findings)
            counts["files_with_findings"] += bool(findings)
    finally:
        progress.end()
    return counts


async def review_file(ls: QcoderServer, path: Path) -> list[Finding]:
    """Findings in one file's changed lines, sent to the client."""
    opened = {convert.path_of(uri): uri for uri in tuple(ls.workspace.text_documents)}
    uri = opened.get(path)
    snapshot = ls.snapshot(uri) if uri is not None else unopened(ls, path)
    review = ls.session.settings.review
    if snapshot is None or not review.enabled:
        return []
    engine = ls.session.engine if review.model_hints else None
    findings = await of_changed_lines(ls, snapshot, engine)
    if uri is not None:
        diagnostics.review_again(ls, uri)
    elif findings:
        codec, rows = ls.workspace.position_codec, rows_of(snapshot.document.text)
        items = [convert.to_diagnostic(codec, rows, finding) for finding in findings]
        uri = snapshot.document.uri
        ls.unopened_findings[path] = uri
        ls.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, items))
    return findings


def unopened(ls: QcoderServer, path: Path) -> Snapshot | None:
    """Snapshot of a file on disk; None where it has gone or is no text."""
    try:
        return ls.session.snapshot(path.as_uri(), path, 0, read_text(path))
    except InputError:
        return None


async def of_changed_lines(
    ls: QcoderServer, snapshot: Snapshot, engine: Engine | None
) -> list[Finding]:
    """What the rules find, and the model where there is one."""

    def work(token: CancelToken) -> list[Finding]:
        return review_document(snapshot, engine, diagnostics.changed_lines(snapshot), token)

    return await jobs.attempt(ls.session.engine_thread, KEY, Priority.REVIEW, work) or []


def summary(counts: dict[str, int]) -> str:
    """What the review has found, in one sentence."""
    if not counts["files"]:
        return "Nothing has changed since the last commit."
    if not counts["findings"]:
        return f"Nothing to say about {counted(counts['files'], 'changed file')}."
    files = f"{counts['files_with_findings']} of {counted(counts['files'], 'changed file')}"
    return f"{counted(counts['findings'], 'finding')} in {files}."


def counted(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
