"""Imports a checkpoint: reads it once, writes it quantized under a name of the user's.

Matrices are read, rounded and written a few rows at a time, so memory does not grow with the model.
Everything goes into a hidden folder beside the target, which is renamed when all of it is on disk: a
model is there completely or not at all. What an interruption leaves in the hidden folder is used by
the next import of the same source with the same options; an error leaves nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qcoder.kernels.tiled import TILE_ROWS, TiledShape, dequantize, quantize, tile
from qcoder.model.checkpoint import INDEX, Checkpoint, shard_paths
from qcoder.model.config import load_config
from qcoder.model.errors import CheckpointError
from qcoder.model.formats import GGUF_INDEX
from qcoder.model.import_plan import BITS, HEAD, Item, Options, plan, refuse_stacks
from qcoder.model.json_file import read_json
from qcoder.model.manifest import MANIFEST, mark_verified, read_manifest, sha256
from qcoder.model.matrix import Floats, Matrix
from qcoder.model.quant import quantize_fp8, quantize_int4
from qcoder.model.shard_writer import Written, write_shard
from qcoder.model.source_checksums import verify_source
from qcoder.model.tokenizer import Tokenizer

JOURNAL = "import.json"
SLICE_WEIGHTS = 1 << 18
"""Weights that are rounded at a time: 1 MB of floats stay in the cache. Rounding to int4 takes 12 ms of
processor time for 1.6 million weights this way, 30 ms when all are taken at once.
"""

REMAP_BYTES = 256 << 20
"""Read so much, then map the source anew: pages that were read count as memory while mapped."""

ROUND: dict[str, Callable[[Tensor, int], tuple[Tensor, Tensor]]] = {
    "int4": quantize_int4,
    "int4x2": lambda rows, group: quantize_int4(rows, group, clips=(1.0,)),  # the first plane
    "int8": lambda rows, group: quantize(rows, 8, group),
    "fp8": lambda rows, _: quantize_fp8(rows),
}
"""How a matrix is held -> (rows, columns a scale) -> values and scales."""

EXTRA_FILES = (
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    GGUF_INDEX,
)
"""Copied beside tokenizer.json where they exist."""

Progress = Callable[[str, int, int], None]
"""(what is being done, bytes done since the last call, bytes of all)."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A finished import."""

    folder: Path
    size_bytes: int
    resumed_files: int


def import_model(
    source: Path, target: Path, options: Options, progress: Progress = lambda *_: None
) -> Imported:
    """Write the model of folder `source` to the new folder `target`.

    Raises `CheckpointError` for anything wrong with either; then nothing is left behind, but what an
    interrupted import had done where only the disk is too full to go on.
    """
    if target.exists():
        raise CheckpointError(f"{target}: exists already; choose another name or delete it first")
    staging = target.with_name(f".{target.name}.importing")
    try:
        result = _import(source, target, staging, options, progress)
    except CheckpointError as error:
        # Files that are done are good: with more room the import goes on behind them.
        if not isinstance(error, NoSpaceError) or not (staging / JOURNAL).exists():
            shutil.rmtree(staging, ignore_errors=True)
        raise
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise CheckpointError(f"{error.filename or staging}: {error.strerror or error}") from None
    return result


def _import(
    source: Path, target: Path, staging: Path, options: Options, progress: Progress
) -> Imported:
    config = load_config(source)
    tokenizer = Tokenizer.load(source)
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{source}: tokenizer.json has {tokenizer.vocab_size} ids, the model "
            f"{config.vocab_size}; they do not belong together, download both again"
        )
    if options.quantize != "none" and config.quantization == "qcoder-int4":
        raise CheckpointError(f"{source}: is int4 of qcoder already; import what it was made of")
    with Checkpoint.open(source, headers_only=True) as checkpoint:
        if options.quantize != "none":
            refuse_stacks(checkpoint)
        files = plan(checkpoint, config, options)
    total = sum(item.size_bytes for items in files for item in items)
    if options.quantize == "none":
        total = sum(path.stat().st_size for path in shard_paths(source))
    journal = Journal.begin(staging, {"source": _identity(source), "options": asdict(options)})
    resumed = len(journal.done)
    _check_space(target, total - sum(one.size_bytes for one in journal.done.values()))
    verify_source(source, shard_paths(source), progress)
    if options.quantize == "none":
        _copy_shards(source, staging, journal, total, progress)
    else:
        _write_shards(source, staging, files, journal, total, progress)
    write_rest(source, staging, files, options, journal)
    (staging / JOURNAL).unlink()
    staging.replace(target)
    _sync_folder(target.parent)
    mark_verified(target)
    size_bytes = sum(path.stat().st_size for path in target.iterdir())
    return Imported(target, size_bytes, resumed)


class NoSpaceError(CheckpointError):
    """The disk is too full to begin, or to go on."""


class Journal:
    """Which files are complete, on disk before the next begins."""

    def __init__(self, path: Path, facts: dict[str, Any], done: dict[str, Written]) -> None:
        self._path, self._facts, self.done = path, facts, done

    @staticmethod
    def begin(staging: Path, facts: dict[str, Any]) -> Journal:
        """Go on where an equal import stopped, or begin with an empty folder."""
        path = staging / JOURNAL
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            done = {name: Written(**one) for name, one in known["done"].items()}
            equal = known["facts"] == facts and all(
                (staging / one.name).stat().st_size == one.size_bytes for one in done.values()
            )
        except (OSError, ValueError, KeyError, TypeError):
            equal, done = False, {}
        if not equal:
            done = {}
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
        for partial in staging.glob("*.part"):
            partial.unlink()
        return Journal(path, facts, done)

    def add(self, written: Written) -> None:
        """Remember a complete file."""
        self.done[written.name] = written
        data = {"facts": self._facts, "done": {n: asdict(w) for n, w in self.done.items()}}
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(data), encoding="utf-8")
        temporary.replace(self._path)


class Source:
    """The checkpoint, mapped anew every now and then."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._read_bytes = folder, 0
        self._checkpoint = Checkpoint.open(folder)

    def matrix(self, name: str, shape: tuple[int, ...]) -> Matrix:
        """A matrix in whatever way the source holds it."""
        rows, columns = shape
        self._count(2 * rows * columns)  # of bfloat16; what is packed is less
        found = self._checkpoint.matrix(name.removesuffix(".weight"), rows, columns)
        return Floats(self._checkpoint.raw(name, shape)) if found is None else found

    def tensor(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor that is kept."""
        self._count(dtype.itemsize)
        return self._checkpoint.float_tensor(name, shape, dtype)

    def close(self) -> None:
        """Unmap the files."""
        self._checkpoint.close()

    def _count(self, size_bytes: int) -> None:
        self._read_bytes += size_bytes
        if self._read_bytes > REMAP_BYTES:
            self._checkpoint.close()
            self._checkpoint, self._read_bytes = Checkpoint.open(self._folder), size_bytes


def _write_shards(
    source: Path,
    staging: Path,
    files: list[list[Item]],
    journal: Journal,
    total: int,
    progress: Progress,
) -> None:
    reader, threads = Source(source), torch.get_num_threads()
    # A slice is too small to share: two threads would wait for each other most of the time.
    torch.set_num_threads(1)
    try:
        for index, items in enumerate(files):
            name = shard_name(index, len(files))
            if name in journal.done:
                progress("quantizing", sum(item.size_bytes for item in items), total)
                continue
            entries = [entry for item in items for entry in item.entries]
            pieces = (piece for item in items for piece in content(reader, item))
            journal.add(
                write_shard(
                    staging / name, entries, pieces, lambda n: progress("quantizing", n, total)
                )
            )
    finally:
        torch.set_num_threads(threads)
        reader.close()


def shard_name(index: int, count: int) -> str:
    """The hub's name of a weight file; one file is numbered too."""
    return f"model-{index + 1:05d}-of-{count:05d}.safetensors"


def content(reader: Source, item: Item) -> Iterator[Tensor]:
    """What an item's entries hold, in order and in pieces."""
    if item.held == "none" and len(item.source_shape) != 2:
        yield reader.tensor(item.sources[0], item.source_shape, item.dtype)
        return
    if item.held == "int4x2":
        yield from _tiles(_slices(reader, item), item)
        yield from _tiles(_left_out(_slices(reader, item), item), replace(item, held="int4"))
    elif item.held in BITS:
        yield from _tiles(_slices(reader, item), item)
    elif item.held == "none":
        yield from (rows.to(item.dtype) for rows in _slices(reader, item))
    else:
        scales = []
        for rows in _slices(reader, item):
            values, scale = ROUND[item.held](rows, item.group)
            scales.append(scale)
            yield values
        yield from scales


def _slices(reader: Source, item: Item) -> Iterator[Tensor]:
    """A few rows at a time, float32, of all matrices of an item."""
    for name in item.sources:
        matrix = reader.matrix(name, item.source_shape)
        step = max(TILE_ROWS, SLICE_WEIGHTS // item.source_shape[1] // TILE_ROWS * TILE_ROWS)
        for start in range(0, matrix.out_size, step):
            rows = matrix.floats(start, min(start + step, matrix.out_size))
            if not isfinite(float(rows.sum())):
                raise CheckpointError(
                    f"tensor {name!r} holds values that are not finite; download it again"
                )
            yield rows


def _tiles(slices: Iterable[Tensor], item: Item) -> Iterator[Tensor]:
    for rows in slices:
        values, scale = ROUND[item.held](rows, item.group)
        shape = TiledShape(len(rows), rows.shape[1], BITS[item.held], item.group)
        yield tile(values, scale, shape)


def _left_out(slices: Iterable[Tensor], item: Item) -> Iterator[Tensor]:
    """What the first plane leaves out of each weight."""
    for rows in slices:
        values, scale = ROUND[item.held](rows, item.group)
        yield rows - dequantize(values, scale, 4)


def _copy_shards(
    source: Path, staging: Path, journal: Journal, total: int, progress: Progress
) -> None:
    """The weight files as they are."""
    for path in shard_paths(source):
        if path.name in journal.done:
            progress("copying", path.stat().st_size, total)
            continue
        digest, size_bytes = hashlib.sha256(), 0
        partial = staging / f"{path.name}.part"
        with path.open("rb") as old, partial.open("wb") as new:
            while block := old.read(1 << 22):
                new.write(block)
                digest.update(block)
                size_bytes += len(block)
                progress("copying", len(block), total)
            new.flush()
            os.fsync(new.fileno())
        partial.replace(staging / path.name)
        journal.add(Written(path.name, digest.hexdigest(), size_bytes))


def write_rest(
    source: Path, staging: Path, files: list[list[Item]], options: Options, journal: Journal
) -> None:
    """Everything but the weights; the manifest last, since it has the checksums."""
    config = read_json(source / "config.json", f"{source}: no config.json")
    if options.quantize == "none":
        index = source / INDEX
        if index.exists():
            shutil.copyfile(index, staging / INDEX)
    else:
        config.pop("compression_config", None)
        config["quantization_config"] = {
            "quant_method": f"qcoder-{options.quantize}",
            "group_size": options.group,
            "head": options.head,
        }
        weight_map = {
            entry.name: shard_name(number, len(files))
            for number, items in enumerate(files)
            for item in items
            for entry in item.entries
        }
        config["tie_word_embeddings"] = config.get("tie_word_embeddings", False) and (
            HEAD not in weight_map
        )
        _write_json(staging / INDEX, {"metadata": {}, "weight_map": weight_map})
    _write_json(staging / "config.json", config)
    for name in ("tokenizer.json", *EXTRA_FILES):
        if (source / name).is_file():
            shutil.copyfile(source / name, staging / name)
    known = {name: one.sha256 for name, one in journal.done.items()}
    checksums = {
        path.name: {
            "sha256": known.get(path.name) or sha256(path),
            "bytes": path.stat().st_size,
        }
        for path in sorted(staging.iterdir())
        if path.name not in (JOURNAL, MANIFEST)
    }
    facts = {**read_manifest(source), "source": source.name, "import": asdict(options)}
    facts["name"] = staging.name.removeprefix(".").removesuffix(".importing")
    _write_json(staging / MANIFEST, {**facts, "files": checksums})
    _sync_folder(staging)


def _write_json(path: Path, data: dict[str, Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(data, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def _identity(source: Path) -> dict[str, list[Any]]:
    """What tells a source from another, or from itself after a change."""
    small = {name: [sha256(source / name)] for name in ("config.json", "tokenizer.json")}
    stats = {str(path.resolve()): path.stat() for path in shard_paths(source)}
    return small | {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}


def _check_space(target: Path, size_bytes: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(target.parent).free
    if size_bytes > free:
        raise NoSpaceError(
            f"{target.parent}: needs {size_bytes / 1e9:.1f} GB of disk, {free / 1e9:.1f} free; "
            "make room or import with a smaller --quantize"
        )


def _sync_folder(folder: Path) -> None:
    """Make renames durable where folders can be synced (not on Windows)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
