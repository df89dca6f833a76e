"""The command that reviews what the last commit has not, in files that are open and in others.

Findings of files that are not open are sent once, and taken back when such a file is opened (its own
review then says what is in it) or when the command runs again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lsprotocol import types

from qcoder.context.privacy import exclude_spec, refused
from qcoder.lsp_server import convert, diagnostics, jobs, protocol
from qcoder.lsp_server.assist_actions import say
from qcoder.lsp_server.changes import ChangedFile, since, top_level
from qcoder.lsp_server.documents import rows_of
from qcoder.lsp_server.headless import InputError
from qcoder.lsp_server.report_formats import count
from qcoder.lsp_server.review import is_reviewed, review_document
from qcoder.lsp_server.server import QcoderServer
from qcoder.lsp_server.snapshot import Finding, Snapshot
from qcoder.lsp_server.work_progress import WorkProgress
from qcoder.model.request import CancelToken, Priority

KEY = "review of changes"


def register_review_changes(server: QcoderServer) -> None:
    """The command itself."""

    @server.command(protocol.COMMAND_REVIEW_CHANGES)
    async def review_changes(ls: QcoderServer) -> dict[str, int] | None:
        stop_review(ls)
        stop = ls.changes_review = CancelToken()
        take_back(ls)
        exclude = ls.session.settings.privacy.exclude
        found = await jobs.attempt(
            ls.session.rules_thread,
            KEY,
            Priority.REVIEW,
            lambda _: changed_files(tuple(ls.roots), exclude),
        )
        if stop.cancelled:
            return None
        if not isinstance(found, dict):
            say(ls, found or "The changes could not be listed; see the log.", good=False)
            return None
        counts = await review_files(ls, found, stop)
        if counts is not None:
            say(ls, summary(counts), good="failed" not in counts)
        return counts


def stop_review(ls: QcoderServer) -> None:
    """End the review that runs, if one does: its jobs, and what would come behind them."""
    ls.changes_review.cancel()
    for thread in (ls.session.engine_thread, ls.session.rules_thread):
        thread.cancel(KEY)


def take_back(ls: QcoderServer) -> None:
    """Forget what was sent about files that are not open."""
    for uri in ls.unopened_findings.values():
        ls.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, []))
    ls.unopened_findings.clear()


def changed_files(roots: Sequence[Path], exclude: Sequence[str]) -> dict[Path, ChangedFile] | str:
    """Changed files under `roots` that may be read and that some rule knows, or what is wrong."""
    spec, found, wrong = exclude_spec(exclude), dict[Path, ChangedFile](), ""

    def wanted(path: str) -> bool:
        return is_reviewed(path) and refused(path, None, spec) is None

    for root in roots:
        try:
            top = top_level(root)
            changed = since(top, "HEAD", wanted)
        except InputError as error:
            wrong = str(error)
            continue
        for file in changed:
            path = top / file.path
            if path.is_relative_to(root.resolve()) or path.is_relative_to(root):
                found[path] = file
    if not roots:
        return "Open a folder to review its changes."
    return wrong if wrong and not found else found


async def review_files(
    ls: QcoderServer, files: Mapping[Path, ChangedFile], stop: CancelToken
) -> dict[str, int] | None:
    """Review each file's changed lines and send what is found; None when that was stopped.

    `failed` counts the files whose review failed, where there are such.
    """
    counts = {"files": len(files), "files_with_findings": 0, "findings": 0}

    def cancel() -> None:
        if not stop.cancelled:
            stop_review(ls)

    progress = WorkProgress(ls, "qcoder: reviewing changes", cancel)
    try:
        for done, (path, file) in enumerate(files.items()):
            progress.report(done, len(files))
            try:
                findings = await review_file(ls, path, file, stop)
            except Exception:  # the boundary of one file's review; its log line is written
                counts["failed"] = counts.get("failed", 0) + 1
                continue
            if findings is None:
                return None
            counts["findings"] += len(findings)
            counts["files_with_findings"] += bool(findings)
    finally:
        progress.end()
    return counts


async def review_file(
    ls: QcoderServer, path: Path, file: ChangedFile, stop: CancelToken
) -> list[Finding] | None:
    """Findings in one file's changed lines, sent to the client; None when that was stopped."""
    uri = open_uri(ls, path)
    if uri is not None:
        snapshot = ls.snapshot(uri)
    else:
        snapshot = ls.session.snapshot(path.as_uri(), path, 0, file.text)
    if snapshot is None or not snapshot.settings.review.enabled:
        return []
    findings = await of_changed_lines(ls, snapshot, file.lines if uri is None else None)
    if findings is None or stop.cancelled:
        return None
    uri = open_uri(ls, path)  # it may have been opened meanwhile
    if uri is not None:
        diagnostics.review_again(ls, uri)
    elif findings:
        codec, rows = ls.workspace.position_codec, rows_of(snapshot.document.text)
        items = [convert.to_diagnostic(codec, rows, finding) for finding in findings]
        uri = snapshot.document.uri
        ls.unopened_findings[path] = uri
        ls.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, items))
    return findings


def open_uri(ls: QcoderServer, path: Path) -> str | None:
    """The client's URI of an open file; None for others."""
    documents = tuple(ls.workspace.text_documents.values())
    return next((one.uri for one in documents if convert.path_of(one.uri) == path), None)


async def of_changed_lines(
    ls: QcoderServer, snapshot: Snapshot, lines: frozenset[int] | None
) -> list[Finding] | None:
    """What rules and model find on these 0-based lines (None: those of the buffer that git has not).

    None when it was stopped; raises what the review raises.
    """
    engine = ls.session.engine if snapshot.settings.review.model_hints else None

    def work(token: CancelToken) -> list[Finding]:
        changed = diagnostics.changed_lines(snapshot) if lines is None else lines
        return review_document(snapshot, engine, changed, token)

    thread = ls.session.engine_thread if engine is not None else ls.session.rules_thread
    return await jobs.run(thread, KEY, Priority.REVIEW, work)


def summary(counts: dict[str, int]) -> str:
    """What the review has found, in one sentence."""
    if not counts["files"]:
        return "Nothing has changed since the last commit."
    if failed := counts.get("failed"):
        found = count(counts["findings"], "finding")
        return f"{found}; {count(failed, 'file')} could not be reviewed, see the log."
    if not counts["findings"]:
        return f"Nothing to say about {count(counts['files'], 'changed file')}."
    files = f"{counts['files_with_findings']} of {count(counts['files'], 'changed file')}"
    return f"{count(counts['findings'], 'finding')} in {files}."
