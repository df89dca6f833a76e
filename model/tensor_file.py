"""One file of weights: what is in it, and its tensors as views of the mapped file.

`TensorFile` is what `checkpoint.py` needs of a file; safetensors here, GGUF in `gguf_file.py`. The
kind of a tensor is the name of its type in the file: F32, BF16, I32, F8_E4M3, U8, Q4_K...
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from qcoder.model.errors import CheckpointError

AGAIN = "download the checkpoint again"

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Types of safetensors."""

FLOATS = ("F32", "BF16", "F16")
"""Kinds that are weights as they are."""


class TensorFile(Protocol):
    """An open file of named tensors."""

    def names(self) -> Iterable[str]:
        """Every tensor, by the hub's name."""
        ...

    def kind(self, name: str) -> str:
        """Its type in the file."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """How many weights in each dimension, however they are packed."""
        ...

    def tensor(self, name: str) -> Tensor:
        """Its content; raises `CheckpointError`."""
        ...

    def close(self) -> None:
        """Give the file back; tensors that were read stay valid."""
        ...


class SafetensorsFile:
    """A safetensors file, whose header the library has checked against the size of the file."""

    __slots__ = ("_file", "_path")

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file: Any = safe_open(path, framework="pt")
        except FileNotFoundError:
            raise CheckpointError(f"{path}: file is missing; {AGAIN}") from None
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: {_damage(path, error)}; {AGAIN}") from None

    def names(self) -> Iterable[str]:
        """Every tensor."""
        return list(self._file.keys())

    def kind(self, name: str) -> str:
        """Its type in the file."""
        return str(self._file.get_slice(name).get_dtype())

    def shape(self, name: str) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self._file.get_slice(name).get_shape())

    def tensor(self, name: str) -> Tensor:
        """A view of the mapped file."""
        try:
            tensor: Tensor = self._file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{self._path.name}: tensor {name!r} cannot be read ({error}); {AGAIN}"
            ) from None
        return tensor

    def close(self) -> None:
        """Give the file back."""
        self._file.__exit__(None, None, None)


def _damage(path: Path, error: Exception) -> str:
    """What is wrong with a file that the library refuses."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError:
        start = b""
    # A pickle would run its author's code when it is read: it is refused by what it is, unopened.
    if start[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") or start == b"PK\x03\x04":
        return "is a pickle, which can run code, in place of safetensors"
    if not start and path.is_file():
        return "damaged or cut short (it is empty)"
    return f"damaged or cut short ({error})"
