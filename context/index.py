"""The index of one workspace: a record a file, the maps over them, and open buffers on top.

The disk and the editor are two layers (`layers.py`). Records of the disk are kept up by `refresh`
and `update` and saved; those of open buffers come and go with `overlay`. Readers get immutable
records, so they hold the layers' lock only for a look-up.

`_disk` serialises reading one file and storing its record (milliseconds); it is always taken before
the layers' lock.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import xxhash

from qcoder.context import store
from qcoder.context.exports import exported
from qcoder.context.history import History, read_history
from qcoder.context.imports import Import
from qcoder.context.languages import language_of
from qcoder.context.layers import Layers, Overlay
from qcoder.context.membership import Membership, is_ignore_file
from qcoder.context.names import NameMaps
from qcoder.context.parse import Parsed, read_syntax
from qcoder.context.privacy import exclude_spec, refused
from qcoder.context.readers import read_files, read_record
from qcoder.context.reading import PLAIN, Request, is_spoiled
from qcoder.context.record import Facts, FileRecord, Symbol, facts_of
from qcoder.context.report import IndexReport, cpu_seconds, peak_rss_mb
from qcoder.context.saved import Rejected, Saved, from_payload, to_payload
from qcoder.context.segments import Document, Segment, Span
from qcoder.context.source import Source, content_reason, read_source, version_on_disk

logger = logging.getLogger(__name__)

SAVE_EVERY_FILES = 10_000
SAVE_EVERY_S = 30.0
MAX_UPDATES = 1000

_Pair = tuple[FileRecord, Symbol]


class Index:
    """Thread-safe. Open one with `Index.open`; `refresh` brings it up to date with the disk."""

    def __init__(self, root: Path, store_file: Path, exclude: Sequence[str] = ()) -> None:
        self.root = root
        self._store_file = store_file
        self._exclude = tuple(exclude)
        self._exclude_spec = exclude_spec(self._exclude)
        self._members = Membership(root, exclude)
        self._disk = threading.RLock()
        self._saving = threading.Lock()
        self._layers = Layers({}, NameMaps())
        self._rejected: dict[str, Rejected] = {}
        self._unlisted: Mapping[str, int] = {}
        self._updated: set[str] = set()
        self._parsed = 0
        self._unsaved = 0
        self._costs = (0.0, 0.0)
        self._cache_bytes = 0
        self.history = History()

    @staticmethod
    def open(root: Path, cache_dir: Path | None = None, exclude: Sequence[str] = ()) -> Index:
        """Load what an earlier run saved; scans nothing and never fails."""
        root = Path(os.path.abspath(root))
        index = Index(root, store.store_path(root, cache_dir), exclude)
        payload = store.load(index._store_file)
        if payload is not None:
            try:
                index._restore(from_payload(payload))
                index._cache_bytes = store.saved_bytes(index._store_file)
            except (ValueError, TypeError, LookupError, AttributeError) as error:
                logger.warning(
                    "index file=%s ignored: its records cannot be read (%s); "
                    "the workspace is indexed anew",
                    index._store_file,
                    type(error).__name__,
                )
                index = Index(root, index._store_file, exclude)
        return index

    def refresh(
        self,
        progress: Callable[[int, int], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> IndexReport:
        """Bring every record up to date; only changed files are read. `progress(done, total)`.

        Saves now and then on the way, so that a killed run loses little. When `stop` says so, it
        ends early with what there is.
        """
        started, cpu_started = time.monotonic(), cpu_seconds()
        with self._disk:
            self._updated.clear()
        listing = self._members.list_all()
        unlisted = Counter(listing.skipped)
        last_save, parsed_before = started, self._parsed
        stopped = stop or (lambda: False)
        stale = self._stale(listing.paths)
        done, total = len(listing.paths) - len(stale), len(listing.paths)
        for path, outcome in read_files(self.root, stale, self._exclude, stopped):
            with self._disk:
                # What `update` has read meanwhile is newer.
                if path not in self._updated:
                    self._take(path, outcome)
                    unlisted["missing"] += outcome == "missing"
            done += 1
            if progress is not None:
                progress(done, total)
            late = time.monotonic() - last_save > SAVE_EVERY_S
            if self._unsaved >= SAVE_EVERY_FILES or (late and self._unsaved):
                self.save()
                last_save = time.monotonic()
        self._unlisted = +unlisted
        if not stopped():
            self._remove_all_but(frozenset(listing.paths))
        self._hide_left_out(self._layers.overlaid())
        if self._unsaved:
            self.save()
        self._costs = (time.monotonic() - started, cpu_seconds() - cpu_started)
        report = self.report()
        logger.info(
            "index root=%s files=%d parsed=%d skipped=%d seconds=%.2f",
            self.root,
            report.files,
            self._parsed - parsed_before,
            sum(report.skipped.values()),
            report.seconds,
        )
        return report

    def read_history(self) -> None:
        """Look through git's last commits for files that change together; takes up to seconds."""
        self.history = read_history(self.root)

    def update(self, path: str) -> None:
        """Re-read one file; it goes when it is gone or excluded. A folder is looked through."""
        self.update_all((path,))

    def update_all(self, paths: Sequence[str]) -> bool:
        """Re-read some files as one; very many, a folder or an ignore file mean all: then True.

        What the rules ignore costs nothing; a tracked file among it comes with the next `refresh`.
        """
        self._members.forget(paths)
        known = {path for path in paths if self._layers.on_disk(path) is not None}
        fresh = [path for path in paths if path not in known or is_ignore_file(path)]
        fresh = self._members.that_matter(fresh)
        anew = (p for p in fresh if is_ignore_file(p) or (self.root / p).is_dir())
        gone = (p for p in paths if p not in known and self._layers.is_folder(p))
        if len(known) + len(fresh) > MAX_UPDATES or any(anew) or any(gone):
            self.refresh()
            return True
        for path in sorted(known | self._members.listed(fresh)):
            with self._disk:
                self._updated.add(path)
                for request in self._stale([path]):
                    self._take(path, read_record(self.root, request, self._exclude_spec))
        self._hide_left_out(paths)
        return False

    def _hide_left_out(self, paths: Sequence[str]) -> None:
        """Take back open buffers whose files turn out to be ignored."""
        for path in paths:
            if self._layers.overlay(path) is not None and self._is_left_out(path):
                logger.info("overlay path=%r left out: ignored", path)
                self._layers.cover(path, None)

    def _is_left_out(self, path: str) -> bool:
        return self._layers.on_disk(path) is None and self._members.is_left_out(path)

    def overlay(self, path: str, document: Document) -> None:
        """Let an open buffer stand in for its file; one that must not be used hides it instead."""
        data = document.text.encode("utf-8", "surrogatepass")
        reason = content_reason(data) or refused(path, data, self._exclude_spec)
        if reason is None and self._is_left_out(path):
            reason = "ignored"
        if reason is not None:
            logger.info("overlay path=%r left out: %s", path, reason)
            self._layers.cover(path, None)
            return
        language = document.language or language_of(path, document.text)
        content_hash = xxhash.xxh3_128_digest(data)
        current = self.record(path)
        if is_spoiled(path, current.facts if current else None):
            language = PLAIN
        parsed = read_syntax(document.text, language, self.parsed(path, language))
        if current and (current.facts.hash, current.facts.language) == (content_hash, language):
            facts = current.facts
        else:
            facts = facts_of(document.text, language, parsed.syntax, content_hash)
        record = FileRecord(path, len(data), 0, facts)
        self._layers.cover(path, Overlay(document, record, parsed))

    def parsed(self, path: str, language: str) -> Parsed | None:
        """The tree of an open buffer as it was lately, for the next version of it."""
        overlay = self._layers.overlay(path)
        return overlay.parsed if overlay and overlay.record.facts.language == language else None

    def drop_overlay(self, path: str) -> None:
        """The buffer is closed: the file on the disk counts again."""
        self._layers.uncover(path)

    def paths(self) -> tuple[str, ...]:
        """Every indexed path, sorted; relative to the root, with slashes."""
        return tuple(sorted(self._layers.paths()))

    def record(self, path: str) -> FileRecord | None:
        """The record of a path, of its open buffer when there is one."""
        return self._layers.record(path)

    def definitions(self, name: str) -> tuple[Segment, ...]:
        """Definitions of a name outside functions, by path; the text is the signature."""
        return tuple(
            Segment(
                record.path,
                Span(symbol.start_byte, symbol.end_byte, symbol.start_line, symbol.end_line),
                symbol.kind,
                symbol.name,
                symbol.signature,
            )
            for record, symbol in self.symbols_named(name)
        )

    def symbols_named(self, name: str, max_files: int = 64) -> list[tuple[FileRecord, Symbol]]:
        """Symbols of a name outside functions with their files, by path."""
        with self._layers.lock:
            paths = self._layers.maps.definers(name)[:max_files]
            records = [self.record(path) for path in paths]
        return [
            (record, symbol)
            for record in records
            if record is not None
            for symbol in record.facts.named(name)
        ]

    def text(self, path: str) -> str | None:
        """Current text of an indexed path: the open buffer's, else the disk's; None when refused."""
        overlay = self._layers.overlay(path)
        if overlay is not None:
            return overlay.document.text
        if self.record(path) is None:
            return None
        source = read_source(self.root, path, self._exclude_spec)
        return source.text if isinstance(source, Source) else None

    def text_of(self, record: FileRecord) -> str | None:
        """The text that a record describes; None when the file has changed since."""
        overlay = self._layers.overlay(record.path)
        if overlay is not None:
            same = overlay.record.facts.hash == record.facts.hash
            return overlay.document.text if same else None
        known = record.facts.hash
        source = read_source(self.root, record.path, self._exclude_spec, known)
        return source.text if isinstance(source, Source) and source.hash == known else None

    def num_files(self) -> int:
        """How many files are indexed."""
        return self._layers.num_files()

    def users(self, name: str, max_files: int) -> tuple[str, ...]:
        """Files that mention a name, in no order; none when more than `max_files` do."""
        with self._layers.lock:
            maps = self._layers.maps
            return maps.users(name) if maps.num_users(name) <= max_files else ()

    def num_users(self, name: str) -> int:
        """How many files mention a name."""
        with self._layers.lock:
            return self._layers.maps.num_users(name)

    def is_defined(self, name: str) -> bool:
        """Whether some file defines the name outside functions."""
        with self._layers.lock:
            return self._layers.maps.is_defined(name)

    def resolve(self, module: str, importer: str) -> tuple[str, ...]:
        """Files that an imported module means in the file `importer`, best first."""
        return self._layers.resolve(module, importer)

    def imported(self, statement: Import, name: str, importer: str) -> list[_Pair]:
        """Definitions that `name` means in a file with this import, through re-exports."""
        original = statement.original(name)
        if original is None:
            return []
        paths = self.resolve(statement.module, importer)
        return exported(original, paths, self.record, self.resolve, name)

    def in_folder(self, folder: str) -> list[str]:
        """Indexed files that lie directly in a folder ("" is the root), by name."""
        with self._layers.lock:
            return self._layers.maps.modules.in_folder(folder)

    def named_files(self, stem: str) -> list[str]:
        """Indexed files with a name, whatever their suffix and folder; a package by its folder's."""
        with self._layers.lock:
            return sorted(self._layers.maps.modules.ending(stem))

    def maps(self) -> Any:
        """The inverted maps in a comparable form, for checks and tests."""
        with self._layers.lock:
            return self._layers.maps.contents()

    def report(self) -> IndexReport:
        """Counts of what is indexed now and costs of the last refresh."""
        records = self._layers.disk_records()
        with self._disk:
            skipped = Counter(self._unlisted)
            skipped.update(rejected.reason for rejected in self._rejected.values())
        return IndexReport(
            files=len(records),
            skipped=dict(sorted(skipped.items())),
            lines=sum(record.facts.lines for record in records),
            symbols=sum(record.facts.num_symbols for record in records),
            languages=dict(sorted(Counter(r.facts.language for r in records).items())),
            seconds=self._costs[0],
            cpu_seconds=self._costs[1],
            peak_rss_mb=peak_rss_mb(),
            cache_bytes=self._cache_bytes,
            parsed=self._parsed,
        )

    def save(self) -> None:
        """Write the records of the disk unless they are saved; a failure costs one warning."""
        with self._saving:
            with self._disk:
                if not self._unsaved and self._cache_bytes:
                    return
                self._unsaved = 0
                rejected = self._rejected.copy()
            records, maps = self._layers.saved_form()
            saved = Saved(records, rejected, maps, self._exclude)
            self._cache_bytes = store.save(self._store_file, to_payload(saved)) or self._cache_bytes

    def close(self) -> None:
        """Save what is not saved yet. The index stays readable."""
        if self._unsaved:
            self.save()

    def _stale(self, paths: Sequence[str]) -> list[Request]:
        """Files whose version on the disk is not the one that is known."""
        stale, folder = [], os.path.join(self.root, "")
        for path in paths:
            old = self._layers.on_disk(path)
            known = old or self._rejected.get(path)
            version = version_on_disk(folder + path)
            if known is None or version != (known.size, known.mtime_ns):
                size = version[0] if version else 0
                stale.append(Request(path, size, self._likely_facts(path, old)))
        return stale

    def _likely_facts(self, path: str, old: FileRecord | None) -> Facts | None:
        """Facts that a changed file may turn out to have: a save writes what the buffer holds."""
        overlay = self._layers.overlay(path)
        if overlay is not None:
            facts = overlay.record.facts
            # The editor may call a language otherwise than the file's name does.
            if facts.language == language_of(path, overlay.document.text):
                return facts
        return old.facts if old else None

    def _take(self, path: str, outcome: FileRecord | str) -> None:
        """Store what was read of a file; `_disk` is held."""
        self._rejected.pop(path, None)
        if isinstance(outcome, FileRecord):
            old = self._layers.on_disk(path)
            self._parsed += old is None or old.facts is not outcome.facts
            self._unsaved += self._layers.set_disk(path, outcome)
            return
        self._unsaved += self._layers.set_disk(path, None)
        if outcome != "missing":
            version = version_on_disk(self.root / path) or (-1, -1)
            self._rejected[path] = Rejected(*version, outcome)

    def _remove_all_but(self, listed: frozenset[str]) -> None:
        with self._disk:
            kept = listed | self._updated
            self._unsaved += self._layers.keep_only(kept)
            for path in self._rejected.keys() - kept:
                del self._rejected[path]

    def _restore(self, saved: Saved) -> None:
        self._layers = Layers(dict(saved.records), saved.maps)
        if saved.exclude == self._exclude:
            self._rejected = dict(saved.rejected)
            return
        for path in saved.records:
            if refused(path, None, self._exclude_spec) is not None:
                self._layers.set_disk(path, None)
        self._unsaved += 1
