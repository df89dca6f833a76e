"""The two layers of an index, files on the disk and open buffers above them, and the maps over both.

A buffer replaces the record of its path for as long as it is open and is never saved. The lock is
held for look-ups and exchanges of one record, microseconds each; records are immutable.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from qcoder.context.files import Files
from qcoder.context.names import NameMaps
from qcoder.context.parse import Parsed
from qcoder.context.projects import Project
from qcoder.context.record import FileRecord
from qcoder.context.resolve import resolve
from qcoder.context.segments import Document

_MAX_RESOLVED = 50_000
# What these import follows from definitions, which every keystroke may change.
_BY_DEFINITIONS = frozenset({"java", "kotlin", "scala", "csharp", "php"})


@dataclass(frozen=True, slots=True)
class Overlay:
    """An open buffer: its text, what is known of it, and its tree for the next version."""

    document: Document
    record: FileRecord
    parsed: Parsed


class Layers:
    """Thread-safe. `disk` gives and takes records of files, `overlay` those of buffers."""

    def __init__(self, disk: dict[str, FileRecord], maps: NameMaps) -> None:
        self.lock = threading.RLock()
        self._disk = disk
        # None hides a file: its buffer holds what must not be used.
        self._overlays: dict[str, Overlay | None] = {}
        self._maps = maps
        self._files = Files(maps.modules, maps.definers, self._project)
        self._resolved: dict[tuple[str, str], tuple[str, ...]] = {}

    @property
    def maps(self) -> NameMaps:
        """The maps; hold the lock while using them."""
        return self._maps

    def record(self, path: str) -> FileRecord | None:
        """The record of a path, of its open buffer when there is one."""
        with self.lock:
            if path not in self._overlays:
                return self._disk.get(path)
            overlay = self._overlays[path]
            return overlay.record if overlay else None

    def overlay(self, path: str) -> Overlay | None:
        """The open buffer of a path."""
        with self.lock:
            return self._overlays.get(path)

    def overlaid(self) -> list[str]:
        """Paths of the open buffers that stand in for their files."""
        with self.lock:
            return [path for path, overlay in self._overlays.items() if overlay is not None]

    def on_disk(self, path: str) -> FileRecord | None:
        """The record of a file, whether a buffer covers it or not."""
        return self._disk.get(path)

    def disk_records(self) -> list[FileRecord]:
        """The records of all files, without the buffers."""
        with self.lock:
            return list(self._disk.values())

    def paths(self) -> set[str]:
        """Paths of all files and buffers."""
        with self.lock:
            hidden = {path for path, overlay in self._overlays.items() if overlay is None}
            return (self._disk.keys() | self._overlays.keys()) - hidden

    def num_files(self) -> int:
        """How many files and buffers there are."""
        with self.lock:
            return self._maps.num_files()

    def is_folder(self, path: str) -> bool:
        """Whether files of the index lie below a path."""
        with self.lock:
            return self._maps.modules.is_folder(path)

    def set_disk(self, path: str, record: FileRecord | None) -> bool:
        """Exchange the record of a file, None for no such file; whether that changed anything."""
        with self.lock:
            old = self._disk.pop(path, None)
            if record is not None:
                self._disk[path] = record
            if path not in self._overlays:
                self._forget_resolved(old, record)
                self._maps.replace(
                    path, old.facts if old else None, record.facts if record else None
                )
            return old is not record

    def cover(self, path: str, overlay: Overlay | None) -> None:
        """Let a buffer stand in for a file; None hides the file."""
        with self.lock:
            before = self.record(path)
            self._overlays[path] = overlay
            self._exchanged(path, before)

    def uncover(self, path: str) -> None:
        """Forget the buffer of a path: the file counts again."""
        with self.lock:
            before = self.record(path)
            self._overlays.pop(path, None)
            self._exchanged(path, before)

    def _exchanged(self, path: str, before: FileRecord | None) -> None:
        after = self.record(path)
        self._forget_resolved(before, after)
        self._maps.replace(path, before.facts if before else None, after.facts if after else None)

    def keep_only(self, paths: Iterable[str]) -> int:
        """Remove the files that are not among some; how many those were."""
        with self.lock:
            gone = self._disk.keys() - set(paths)
            return sum(self.set_disk(path, None) for path in gone)

    def resolve(self, module: str, importer: str) -> tuple[str, ...]:
        """Files that a module means in the file `importer`, best first."""
        with self.lock:
            found = self._resolved.get((module, importer))
            if found is not None:
                return found
            record = self.record(importer)
            language = record.facts.language if record else ""
            found = resolve(module, importer, language, self._files)
            if record is not None and language not in _BY_DEFINITIONS:
                if len(self._resolved) >= _MAX_RESOLVED:
                    self._resolved.clear()
                self._resolved[module, importer] = found
            return found

    def _forget_resolved(self, before: FileRecord | None, after: FileRecord | None) -> None:
        """Imports mean other files when a file comes or goes, changes its language or a project."""
        if (
            before is None
            or after is None
            or before.facts.language != after.facts.language
            or before.facts.project
            or after.facts.project
        ):
            self._resolved.clear()

    def saved_form(self) -> tuple[dict[str, FileRecord], NameMaps]:
        """The disk's records and the maps over them alone: copies that nobody changes."""
        with self.lock:
            disk, maps = self._disk.copy(), self._maps.copy()
            overlays = tuple(self._overlays.items())
        for path, overlay in overlays:
            below = disk.get(path)
            above = overlay.record.facts if overlay else None
            maps.replace(path, above, below.facts if below else None)
        return disk, maps

    def _project(self, path: str) -> Project:
        record = self.record(path)
        return record.facts.project if record else {}
