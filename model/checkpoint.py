"""A checkpoint folder: which file holds which tensor, read lazily and with clear messages.

Headers are read when a checkpoint is opened, tensors (views of the mapped files) when asked for. How
a quantized matrix lies in several tensors is known to the files of `formats.FORMATS`. Opened with
`headers_only`, it gives tensors without content (torch's "meta" device): an architecture that is
loaded from that says whether every tensor is there and how much memory it will need. Checksums of
a MANIFEST.json are `manifest.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from qcoder.model.errors import CheckpointError
from qcoder.model.formats import GGUF_INDEX, GGUF_WEIGHTS, MatrixReader, matrix_reader
from qcoder.model.gguf_file import GgufFile
from qcoder.model.json_file import read_json
from qcoder.model.matrix import Matrix, float_matrix
from qcoder.model.tensor_file import AGAIN, DTYPES, FLOATS, SafetensorsFile, TensorFile

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "consolidated.00.pth")


@dataclass(frozen=True, slots=True)
class Asked:
    """What an architecture read: a tensor that stays as it is, or the matrix of a layer."""

    name: str
    shape: tuple[int, ...]
    is_matrix: bool


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Where every tensor of a checkpoint folder lies. Files stay open until `close`.

    With `headers_only`, `asked` is everything that was read, in order: what an import has to write.
    """

    folder: Path
    files: Mapping[str, Path]
    headers_only: bool
    asked: list[Asked]
    _readers: Mapping[Path, TensorFile]
    _matrices: MatrixReader
    _open: ExitStack

    @staticmethod
    def open(folder: Path, headers_only: bool = False) -> Checkpoint:
        """Find the shards of `folder` and the tensors in them; raises `CheckpointError`."""
        files: dict[str, Path] = {}
        readers: dict[Path, TensorFile] = {}
        matrices = matrix_reader(folder)
        with ExitStack() as stack:
            for shard in shard_paths(folder):
                readers[shard] = open_file(shard)
                stack.callback(readers[shard].close)
                files.update(dict.fromkeys(readers[shard].names(), shard))
            opened = stack.pop_all()
            return Checkpoint(folder, files, headers_only, [], readers, matrices, opened)
        raise AssertionError("unreachable: the stack swallows nothing")

    def close(self) -> None:
        """Unmap the files; tensors that were read stay valid."""
        self._open.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, name: str, shape: tuple[int, ...], is_matrix: bool = False) -> None:
        """Remember that this is part of the model."""
        if self.headers_only:
            self.asked.append(Asked(name, shape, is_matrix))

    def kind(self, name: str) -> str:
        """The type of a tensor in its file, "" when there is no such tensor."""
        path = self.files.get(name)
        return "" if path is None else self._readers[path].kind(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor; raises `CheckpointError` when there is none."""
        return self._reader(name).shape(name)

    @property
    def size_bytes(self) -> int:
        """Bytes of all weight files."""
        return sum(path.stat().st_size for path in self._readers)

    def raw(self, name: str, shape: tuple[int, ...] | None = None) -> Tensor:
        """One tensor as it lies on disk; raises `CheckpointError` unless it has `shape`."""
        reader = self._reader(name)
        found = reader.shape(name)
        if shape is not None and found != shape:
            raise CheckpointError(
                f"{self.files[name].name}: tensor {name!r} is {list(found)}, config.json says "
                f"{list(shape)}; config and weights do not belong together, {AGAIN}"
            )
        if not self.headers_only:
            return reader.tensor(name)
        dtype = DTYPES.get(reader.kind(name))
        if dtype is None:  # packed in blocks: as many bytes as in the file
            return reader.tensor(name).to("meta")
        return torch.empty(found, dtype=dtype, device="meta")

    def float_tensor(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """One tensor of exactly `shape` as `dtype`, dequantized if it is a quantized matrix."""
        if len(shape) == 2 and name.endswith(".weight"):
            matrix = self.matrix(name.removesuffix(".weight"), shape[0], shape[1])
            if matrix is not None:
                return float_matrix(matrix, dtype)
        tensor = self.raw(name, shape)
        if self.kind(name) not in FLOATS:
            raise self.wrong_kind(name, "F32, BF16, F16 or a quantization of config.json")
        return tensor.to(dtype)

    def matrix(self, stem: str, out_size: int, in_size: int) -> Matrix | None:
        """The quantized matrix of the layer `stem`, None where it is plain (or missing)."""
        return self._matrices(self, stem, out_size, in_size)

    def wrong_kind(self, name: str, expected: str) -> CheckpointError:
        """The error for a tensor of an unexpected type."""
        kind = self.kind(name)
        plain = str(DTYPES[kind]).removeprefix("torch.") if kind in DTYPES else kind
        return CheckpointError(
            f"{self.files[name].name}: tensor {name!r} is {plain}, expected {expected}; "
            "use a checkpoint without this quantization"
        )

    def damaged(self, name: str, reason: str) -> CheckpointError:
        """The error for a tensor whose content cannot be right."""
        return CheckpointError(f"{self.files[name].name}: tensor {name!r} {reason}; {AGAIN}")

    def _reader(self, name: str) -> TensorFile:
        path = self.files.get(name)
        if path is None:
            raise CheckpointError(f"{self._likely_file(name)}: tensor {name!r} is missing; {AGAIN}")
        return self._readers[path]

    def _likely_file(self, name: str) -> str:
        """The file in which a missing tensor should be, for the message."""
        index = self.folder / INDEX
        if index.exists():
            listed = read_json(index, "")["weight_map"].get(name)
            return str(listed) if listed else INDEX
        return next(iter(self._readers)).name


def open_file(path: Path) -> TensorFile:
    """A weight file by what its name ends in; raises `CheckpointError`."""
    if path.name == GGUF_WEIGHTS:
        return GgufFile(path, path.with_name(GGUF_INDEX))
    return SafetensorsFile(path)


def shard_paths(folder: Path) -> list[Path]:
    """The weight files of a checkpoint, in order of name."""
    index = folder / INDEX
    if (folder / GGUF_WEIGHTS).is_file():
        return [folder / GGUF_WEIGHTS]
    if not index.exists():
        _refuse_pickles(folder)
        return [folder / WEIGHTS]
    weight_map = read_json(index, f"{index}: file is missing; {AGAIN}").get("weight_map")
    names = set(weight_map.values()) if isinstance(weight_map, dict) else set()
    # A name with a folder in it would reach outside of the checkpoint.
    if not names or any(not isinstance(n, str) or Path(n).name != n for n in names):
        raise CheckpointError(f"{index}: weight_map is damaged; {AGAIN}")
    return [folder / name for name in sorted(names)]


def _refuse_pickles(folder: Path) -> None:
    """Say what is wrong with a folder that has only pickles."""
    if (folder / WEIGHTS).exists():
        return
    for name in PICKLES:
        if (folder / name).exists():
            raise CheckpointError(
                f"{folder / name}: is a pickle, which can run code when it is read; "
                "download the safetensors files of the same model"
            )
