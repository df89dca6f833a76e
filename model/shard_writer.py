"""Writes one safetensors file front to back, its checksum taken on the way.

All sizes are known before the first byte, so the header is written first and content of any size is
streamed behind it. The file appears under its name only when it is complete and on disk.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from qcoder.model.tensor_file import DTYPES

KINDS = {dtype: kind for kind, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor of the file."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of its content."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Written:
    """A finished file."""

    name: str
    sha256: str
    size_bytes: int


def write_shard(
    path: Path,
    entries: Sequence[Entry],
    content: Iterable[Tensor],
    progress: Callable[[int], None],
) -> Written:
    """Write `entries` with `content`, which is their bytes in order, in pieces of any shape.

    `progress` gets the bytes of each piece. Raises OSError when the disk is full.
    """
    partial = path.with_name(path.name + ".part")
    head = header(entries)
    digest, size_bytes = hashlib.sha256(head), len(head)
    with partial.open("wb") as file:
        file.write(head)
        expected = size_bytes + sum(entry.size_bytes for entry in entries)
        for piece in content:
            block = piece.contiguous().view(-1).view(torch.uint8).numpy().data
            file.write(block)
            digest.update(block)
            size_bytes += block.nbytes
            progress(block.nbytes)
        assert size_bytes == expected, "the content is not that of the entries"
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return Written(path.name, digest.hexdigest(), size_bytes)


def header(entries: Sequence[Entry]) -> bytes:
    """The head of a safetensors file: its length in 8 bytes, then JSON, padded to 8 bytes."""
    offset = 0
    data: dict[str, object] = {"__metadata__": {"format": "pt"}}
    for entry in entries:
        end = offset + entry.size_bytes
        data[entry.name] = {
            "dtype": KINDS[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(data, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
