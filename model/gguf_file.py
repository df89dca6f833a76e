"""A GGUF file as a `TensorFile`, by the hub's names.

What lies where was written into an index beside it when the file was imported (`gguf_import.py`), so
that loading needs no parser and no copy:

    {"tensors": {name: {"kind", "shape", "offset", "change"?, "stored"?, "stored_kind"?, "sources"?}}}

Some architectures store a few tensors in another way than the hub (`stored`, `stored_kind`); `change`
undoes it. A matrix of two `sources` is put together again from their rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qcoder.model.errors import CheckpointError
from qcoder.model.gguf_blocks import KINDS, dequantize_blocks, row_bytes
from qcoder.model.tensor_file import DTYPES, FLOATS

AGAIN = "import the model again"


class GgufFile:
    """An imported GGUF file with its index."""

    __slots__ = ("_bytes", "_entries", "_path")

    def __init__(self, path: Path, index: Path) -> None:
        self._path = path
        try:
            self._entries: dict[str, dict[str, Any]] = json.loads(index.read_text())["tensors"]
            size_bytes = path.stat().st_size
            self._bytes = torch.from_file(str(path), size=size_bytes, dtype=torch.uint8)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"{path}: cannot be read with its index {index.name} ({error}); {AGAIN}"
            ) from None

    def names(self) -> Iterable[str]:
        """Every tensor, by the hub's name."""
        return list(self._entries)

    def kind(self, name: str) -> str:
        """Its type: F32, F16, BF16 or a kind of packed blocks."""
        return str(self._entries[name]["kind"])

    def shape(self, name: str) -> tuple[int, ...]:
        """Its shape in weights."""
        return tuple(self._entries[name]["shape"])

    def tensor(self, name: str) -> Tensor:
        """A view of the mapped file; packed blocks as bytes [..., bytes of a row]."""
        entry = self._entries[name]
        try:
            if "sources" in entry:
                return _together(entry, [self._view(part) for part in entry["sources"]])
            found = self._view(entry)
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{self._path.name}: tensor {name!r} is damaged or cut short ({error}); {AGAIN}"
            ) from None
        return CHANGES[entry["change"]](found, entry) if "change" in entry else found

    def close(self) -> None:
        """Nothing to do: the views hold the mapping."""

    def _view(self, entry: dict[str, Any]) -> Tensor:
        kind = entry.get("stored_kind", entry["kind"])
        shape, start = entry.get("stored", entry["shape"]), entry["offset"]
        if kind in KINDS:
            shape, dtype = [*shape[:-1], row_bytes(kind, shape[-1])], torch.uint8
        else:
            dtype = DTYPES[kind]
        count = dtype.itemsize
        for size in shape:
            count *= size
        if start + count > len(self._bytes):
            raise ValueError(f"ends at byte {start + count} of {len(self._bytes)}")
        return self._bytes[start : start + count].view(dtype).view(shape)


def _together(entry: dict[str, Any], parts: Sequence[Tensor]) -> Tensor:
    """Rows of [queries, keys, values] and of gates, put back into a group a key head."""
    kinds = [source["kind"] for source in entry["sources"]]
    if kinds != [entry["kind"]] * len(kinds):  # of two kinds: only floats can be mixed
        parts = [
            p.float() if kind in FLOATS else dequantize_blocks(p, kind)
            for p, kind in zip(parts, kinds, strict=True)
        ]
    heads, key_dim = entry["heads"], entry["key_dim"]
    value_size = parts[1].shape[0] // heads
    sizes = [heads * key_dim, heads * key_dim, heads * value_size]
    columns = parts[0].shape[1]
    grouped = [p.reshape(heads, -1, columns) for p in (*torch.split(parts[0], sizes), parts[1])]
    return torch.cat(grouped, dim=1).reshape(-1, columns)


def _minus_one(found: Tensor, _: dict[str, Any]) -> Tensor:
    return found.float() - 1


def _log_negative(found: Tensor, _: dict[str, Any]) -> Tensor:
    return torch.log(-found.float())


def _reshaped(found: Tensor, entry: dict[str, Any]) -> Tensor:
    return found.view(entry["shape"])


CHANGES: dict[str, Callable[[Tensor, dict[str, Any]], Tensor]] = {
    "minus_one": _minus_one,
    "log_negative": _log_negative,
    "reshaped": _reshaped,
}
"""What undoes how a tensor was changed for GGUF."""
