"""Reads safetensors checkpoints, one file or shards, lazily and with clear messages.

Headers are read when a checkpoint is opened, tensors (memory-mapped) when asked for. `float_tensor`
dequantizes int8 rows that have a `_scale` beside them, so nothing above knows how weights lie on
disk. Checksums of a shipped model's MANIFEST.json are `manifest.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from qcoder.model.config import read_json
from qcoder.model.errors import CheckpointError
from qcoder.model.quant import dequantize_int8

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
AGAIN = "download the checkpoint again"


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Where every tensor of a checkpoint folder lies. Files stay open until `close`."""

    folder: Path
    files: Mapping[str, Path]
    _readers: Mapping[Path, Any]
    _open: ExitStack

    @staticmethod
    def open(folder: Path) -> Checkpoint:
        """Find the shards of `folder` and the tensors in them; raises `CheckpointError`."""
        files: dict[str, Path] = {}
        readers: dict[Path, Any] = {}
        with ExitStack() as stack:
            for shard in shard_paths(folder):
                try:
                    readers[shard] = stack.enter_context(safe_open(shard, framework="pt"))
                except FileNotFoundError:
                    raise CheckpointError(f"{shard}: file is missing; {AGAIN}") from None
                except (SafetensorError, OSError) as error:
                    raise CheckpointError(
                        f"{shard}: damaged or cut short ({error}); {AGAIN}"
                    ) from None
                files.update(dict.fromkeys(readers[shard].keys(), shard))
            return Checkpoint(folder, files, readers, stack.pop_all())
        raise AssertionError("unreachable: the stack swallows nothing")

    def close(self) -> None:
        """Unmap the files; tensors that were read stay valid."""
        self._open.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def raw(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """One tensor as it lies on disk; raises `CheckpointError` unless it has `shape`."""
        path = self.files.get(name)
        if path is None:
            raise CheckpointError(f"{self._likely_file(name)}: tensor {name!r} is missing; {AGAIN}")
        reader = self._readers[path]
        found = tuple(reader.get_slice(name).get_shape())
        if found != shape:
            raise CheckpointError(
                f"{path.name}: tensor {name!r} is {list(found)}, config.json says {list(shape)}; "
                f"config and weights do not belong together, {AGAIN}"
            )
        try:
            tensor: Tensor = reader.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path.name}: tensor {name!r} cannot be read ({error}); {AGAIN}"
            ) from None
        return tensor

    def float_tensor(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """One tensor of exactly `shape` as `dtype`, dequantized if it is int8 rows."""
        quantized = self.int8_rows(name, shape)
        if quantized is not None:
            return dequantize_int8(*quantized).to(dtype)
        tensor = self.raw(name, shape)
        if tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16):
            raise self._wrong_type(name, tensor, "F32, BF16, F16 or I8 with a scale")
        return tensor.to(dtype)

    def int8_rows(self, name: str, shape: tuple[int, ...]) -> tuple[Tensor, Tensor] | None:
        """Int8 rows [out, in] and their scales [out], or None if the tensor is something else."""
        tensor = self.raw(name, shape)
        if tensor.dtype != torch.int8 or len(shape) != 2:
            return None
        scale = self.raw(name + "_scale", shape[:1])
        if not scale.is_floating_point():
            raise self._wrong_type(name + "_scale", scale, "a float type")
        return tensor, scale

    def _wrong_type(self, name: str, tensor: Tensor, expected: str) -> CheckpointError:
        kind = str(tensor.dtype).removeprefix("torch.")
        return CheckpointError(
            f"{self.files[name].name}: tensor {name!r} is {kind}, expected {expected}; "
            "use a checkpoint without this quantization"
        )

    def _likely_file(self, name: str) -> str:
        """The file in which a missing tensor should be, for the message."""
        index = self.folder / INDEX
        if index.exists():
            listed = read_json(index, "")["weight_map"].get(name)
            return str(listed) if listed else INDEX
        return WEIGHTS


def shard_paths(folder: Path) -> list[Path]:
    """The weight files of a checkpoint, in order of name."""
    index = folder / INDEX
    if not index.exists():
        return [folder / WEIGHTS]
    weight_map = read_json(index, f"{index}: file is missing; {AGAIN}").get("weight_map")
    names = set(weight_map.values()) if isinstance(weight_map, dict) else set()
    if not names or any(not isinstance(n, str) or Path(n).name != n for n in names):
        raise CheckpointError(f"{index}: weight_map is damaged; {AGAIN}")
    return [folder / name for name in sorted(names)]
