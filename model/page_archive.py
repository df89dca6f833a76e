"""Pages of keys and values on disk, so that the first prompt after a restart is not computed from nothing.

A file holds the beginning of one prompt: token ids, and their pages, each with a checksum:

    magic, version, length of the header   16 bytes
    header                                 msgpack: fingerprint, page_bytes, ids, checksum a page
    checksum of the header                 8 bytes
    pages                                  from the next multiple of 4,096 on

A file is written beside its place, synced and renamed: a killed process loses at most the one that it was
writing. Pages are mapped, and checked when a prompt first wants them; one bad byte throws its file away.
What the numbers were computed with is in the fingerprint: model, tokenizer, rotation, page format.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import struct
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgpack  # type: ignore[import-untyped]
import torch
import xxhash
from torch import Tensor

from qcoder.kernels.native_decoder import PAGE_TOKENS
from qcoder.model.paged_cache import Page
from qcoder.model.prefix_cache import common_prefix

logger = logging.getLogger(__name__)

MAGIC, VERSION = b"QCODERKV", 1
MAX_BYTES = 2 << 30
"""Of all files together; the ones that were not used for longest go first."""

SUFFIX = ".kv"
STALE_S = 3600.0
_WRITING = ".writing-"
_ALIGNMENT = 4096
_START = struct.Struct("<8sII")


@dataclass(frozen=True, slots=True)
class Saved:
    """A file whose header was read. `ids` fill whole pages."""

    path: Path
    ids: tuple[int, ...]
    checksums: tuple[int, ...]
    offset: int
    page_bytes: int


class PageArchive:
    """The files of one model in a folder of the user's cache. Used by one thread."""

    def __init__(self, folder: Path, fingerprint: str, page_bytes: int) -> None:
        """Reads the headers; files of other models, older versions or with damage are not its own."""
        self._folder, self._fingerprint, self._page_bytes = folder, fingerprint, page_bytes
        self._saved: list[Saved] = []
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in folder.glob(f"{_WRITING}*"):  # of a process that was killed
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > STALE_S:
                    path.unlink()
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            with contextlib.suppress(OSError, ValueError):
                self._saved.append(self._header(path))

    def longest(self, ids: Sequence[int]) -> int:
        """How many of the first ids some file holds, in whole pages, without the last id."""
        found = (common_prefix(one.ids, ids) for one in self._saved)
        shared = min(max(found, default=0), len(ids) - 1)
        return shared // PAGE_TOKENS * PAGE_TOKENS

    def pages(self, ids: Sequence[int]) -> list[Page]:
        """The pages of the first `longest(ids)` ids; none of a file that turns out to be damaged."""
        length = self.longest(ids)
        if not length:
            return []
        one = max(self._saved, key=lambda saved: common_prefix(saved.ids, ids))
        try:
            found = _mapped(one, length // PAGE_TOKENS)
            os.utime(one.path)
        except (OSError, ValueError) as error:
            logger.warning("pages file=%s thrown away: %s", one.path, error)
            self._saved.remove(one)
            with contextlib.suppress(OSError):
                one.path.unlink()
            return []
        return found

    def save(self, pages: Sequence[Page]) -> int:
        """Keep full, exact pages from the beginning of a prompt; the bytes written, 0 if it failed.

        A file whose prompt begins the new one is replaced by it.
        """
        ids = [token for page in pages for token in page.ids]
        if len(ids) != PAGE_TOKENS * len(pages) or not ids or any(page.age for page in pages):
            raise ValueError("only full pages that are exact can be saved")
        name = xxhash.xxh3_64_hexdigest(struct.pack(f"<{len(ids)}I", *ids)) + SUFFIX
        path = self._folder / name
        try:
            size_bytes = self._write(path, ids, pages)
            saved = self._header(path)
        except (OSError, ValueError) as error:
            logger.warning("pages not saved in %s: %s", self._folder, error)
            return 0
        for older in [one for one in self._saved if one.ids == tuple(ids[: len(one.ids)])]:
            self._saved.remove(older)
            if older.path != path:
                with contextlib.suppress(OSError):
                    older.path.unlink()
        self._saved.append(saved)
        self._evict(keep=path)
        return size_bytes

    def _write(self, path: Path, ids: Sequence[int], pages: Sequence[Page]) -> int:
        blocks = [page.data.numpy().data for page in pages]
        header = msgpack.packb(
            {
                "fingerprint": self._fingerprint,
                "page_bytes": self._page_bytes,
                "ids": list(ids),
                "checksums": [xxhash.xxh3_64_intdigest(block) for block in blocks],
            }
        )
        with tempfile.NamedTemporaryFile(dir=self._folder, prefix=_WRITING, delete=False) as file:
            try:
                file.write(_START.pack(MAGIC, VERSION, len(header)) + header)
                file.write(xxhash.xxh3_64_digest(header))
                file.write(bytes(-file.tell() % _ALIGNMENT))
                for block in blocks:
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
                size_bytes = file.tell()
                os.replace(file.name, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(file.name)
                raise
        return size_bytes

    def _header(self, path: Path) -> Saved:
        """Raises ValueError for what is not a file of this model."""
        with path.open("rb") as file:
            start = file.read(_START.size)
            if len(start) < _START.size:
                raise ValueError("cut short")
            magic, version, length = _START.unpack(start)
            if (magic, version) != (MAGIC, VERSION) or length > 1 << 28:
                raise ValueError("not a file of this version")
            header, checksum = file.read(length), file.read(8)
            offset = file.tell() + -file.tell() % _ALIGNMENT
        if xxhash.xxh3_64_digest(header) != checksum:
            raise ValueError("the header is damaged")
        data = msgpack.unpackb(header)
        if (data["fingerprint"], data["page_bytes"]) != (self._fingerprint, self._page_bytes):
            raise ValueError("of another model")
        ids, checksums = tuple(data["ids"]), tuple(data["checksums"])
        return Saved(path, ids, checksums, offset, self._page_bytes)

    def _evict(self, keep: Path) -> None:
        """Delete what was not used for longest, of all models."""
        parent = self._folder.parent
        stats = []
        for path in parent.glob(f"*/*{SUFFIX}"):
            with contextlib.suppress(OSError):
                stats.append((path.stat().st_mtime, path.stat().st_size, path))
        total = sum(size for _, size, _ in stats)
        for _, size, path in sorted(stats):
            if total <= MAX_BYTES:
                break
            if path != keep:
                total -= size
                with contextlib.suppress(OSError):
                    path.unlink()
                self._saved = [one for one in self._saved if one.path != path]


def _mapped(one: Saved, count: int) -> list[Page]:
    """The first pages of a file; raises ValueError where one is not what was written."""
    with one.path.open("rb") as file:
        # A private mapping, since torch wants memory that it could write.
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    if len(whole) < one.offset + len(one.checksums) * one.page_bytes:
        raise ValueError("cut short")
    pages = []
    for index in range(count):
        begin = one.offset + index * one.page_bytes
        data: Tensor = torch.frombuffer(
            whole, dtype=torch.uint8, count=one.page_bytes, offset=begin
        )
        if xxhash.xxh3_64_intdigest(data.numpy().data) != one.checksums[index]:
            raise ValueError(f"page {index} is damaged")
        ids = one.ids[index * PAGE_TOKENS : (index + 1) * PAGE_TOKENS]
        pages.append(Page.mapped(data, ids))
    return pages
