"""What an import writes: which tensors, how they are held, and in which file.

An architecture is loaded from headers alone; what it asks for is the model. So every missing or
misshapen tensor is known before a byte is written, and a new architecture needs nothing here.
Matrices of layers and experts are quantized; what is read as a tensor (norms, the router, convolutions)
stays as it is, so do embeddings, whose rows are looked up, and matrices too small to matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from qcoder.kernels.tiled import GROUPS, TILE_ROWS, TiledShape
from qcoder.model.checkpoint import Asked, Checkpoint
from qcoder.model.config import ModelConfig
from qcoder.model.errors import CheckpointError
from qcoder.model.format_qcoder import RESIDUAL
from qcoder.model.mtp import load_mtp
from qcoder.model.registry import network_class
from qcoder.model.shard_writer import Entry
from qcoder.model.tensor_file import DTYPES, FLOATS

Held = Literal["int4", "int4x2", "int8", "fp8", "none"]
"""How a matrix is held; "int4x2" is in two planes (`kernels/tiled.py`), "none" is as floats."""

SHARD_BYTES = 2 << 30
"""Size at which the next file begins: what is repeated at most after an interruption."""

SMALL = 64
"""Matrices with fewer rows stay floats, and so do all experts of a layer if some have fewer."""

BITS: dict[Held, int] = {"int4": 4, "int4x2": 4, "int8": 8}
"""What is written as tiles."""

HEAD = "lm_head.weight"

_EXPERT = re.compile(r"(.*\.experts\.)(\d+)\.(gate|up|down)_proj\.weight")
_STACK = re.compile(r".*\.experts\.(gate_up|down)_proj\.weight")


@dataclass(frozen=True, slots=True)
class Options:
    """How to quantize; `head` is the matrix that gives the logits, `group` the columns a scale."""

    quantize: Held = "int4"
    group: int = 32
    head: Held = "int4x2"


@dataclass(frozen=True, slots=True)
class Item:
    """Matrices that become one tensor, or one tensor that is kept.

    sources: names of the matrices, expert by expert, each [rows, columns]; `experts` 0 for a single
    one, which has no first dimension. A kept tensor has `held` "none" and its own shape.
    """

    name: str
    sources: tuple[str, ...]
    source_shape: tuple[int, ...]
    held: Held
    dtype: torch.dtype
    group: int = 0
    experts: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of what is written, in weights."""
        if not self.experts:
            return self.source_shape
        rows, columns = self.source_shape
        return (self.experts, rows * len(self.sources) // self.experts, columns)

    @property
    def entries(self) -> list[Entry]:
        """The tensors in the file, in the order in which their content comes."""
        if self.held == "none":
            return [Entry(self.name, self.dtype, self.shape)]
        *rows, columns = self.shape
        if self.held == "fp8":
            return [
                Entry(self.name, torch.float8_e4m3fn, self.shape),
                Entry(f"{self.name}_scale", torch.float16, tuple(rows)),
            ]
        tiles = TiledShape(rows[-1], columns, BITS[self.held], self.group)
        shape = (*rows[:-1], rows[-1] // TILE_ROWS, tiles.groups, tiles.group_bytes)
        entries = [Entry(self.name, torch.uint8, shape)]
        if self.held == "int4x2":
            stem = self.name.removesuffix("weight")
            entries.append(Entry(f"{stem}{RESIDUAL}", torch.uint8, shape))
        return entries

    @property
    def size_bytes(self) -> int:
        """Bytes of the content."""
        return sum(entry.size_bytes for entry in self.entries)


def plan(checkpoint: Checkpoint, config: ModelConfig, options: Options) -> list[list[Item]]:
    """The items of each file; `checkpoint` has headers only. Raises `CheckpointError`."""
    decoder = network_class(config.model_type).load(checkpoint, config, torch.bfloat16, 8)
    load_mtp(checkpoint, decoder)  # asks for the draft layer, where there is one
    asked = {one.name: one for one in checkpoint.asked}
    head = ""
    if config.tied_embeddings:
        shape = (config.vocab_size, config.hidden_size)
        if fitting(options.head, shape, options.group)[0] != "none":
            # The embeddings stay floats, whose rows are looked up; the head is a matrix of its own.
            head = next(name for name in asked if name.endswith("embed_tokens.weight"))
            asked[HEAD] = Asked(HEAD, shape, is_matrix=True)
    items = [
        *_single(checkpoint, asked.values(), options, head),
        *_experts(checkpoint, asked.values(), options),
    ]
    return _files(items)


def refuse_stacks(checkpoint: Checkpoint) -> None:
    """Raise `CheckpointError` for the experts of our own imports: a plan has them one by one."""
    stacks = (name for name in checkpoint.files if _STACK.fullmatch(name))
    # Stacks of floats and blocks are GGUF's, which are read one expert at a time.
    if any(checkpoint.kind(name) in ("I8", "F8_E4M3", "U8") for name in stacks):
        raise CheckpointError(
            f"{checkpoint.folder}: the experts of a layer lie together, as an import writes them; "
            "use the checkpoint that it was made of"
        )


def _single(
    checkpoint: Checkpoint, asked: Iterable[Asked], options: Options, head: str
) -> Iterable[Item]:
    """What stands alone; `head` is the tensor that the head is a copy of, if it is one."""
    for one in asked:
        if _EXPERT.fullmatch(one.name):
            continue
        held: Held = "none"
        if one.is_matrix and "embed_tokens" not in one.name:
            held = options.head if one.name.endswith("lm_head.weight") else options.quantize
        held, group = fitting(held, one.shape, options.group)
        source = head if head and one.name == HEAD else one.name
        yield Item(one.name, (source,), one.shape, held, _dtype(checkpoint, one), group)


def _dtype(checkpoint: Checkpoint, one: Asked) -> torch.dtype:
    """The type in which a tensor is kept: its own, bfloat16 if it was quantized."""
    kind = checkpoint.kind(one.name)
    return DTYPES[kind] if kind in FLOATS else torch.bfloat16


def _experts(checkpoint: Checkpoint, asked: Iterable[Asked], options: Options) -> Iterable[Item]:
    """Two stacks a layer: gate and up of each expert above each other, and down.

    Experts are read as two stacks or one by one, so either both projections are quantized or none.
    """
    stacks: dict[tuple[str, str], list[Asked]] = {}
    plain: set[str] = set()
    for one in asked:
        if found := _EXPERT.fullmatch(one.name):
            projection = "down" if found[3] == "down" else "gate_up"
            stacks.setdefault((found[1], projection), []).append(one)
            if fitting(options.quantize, one.shape, options.group)[0] == "none":
                plain.add(found[1])
    for (stem, projection), members in stacks.items():
        name = f"{stem}{projection}_proj.weight"
        count = len(members) // (1 if projection == "down" else 2)
        shape = members[0].shape
        if stem in plain:
            for one in members:
                yield Item(one.name, (one.name,), shape, "none", _dtype(checkpoint, one))
            continue
        held, group = fitting(options.quantize, shape, options.group)
        sources = tuple(member.name for member in members)
        yield Item(name, sources, shape, held, torch.bfloat16, group, count)


def fitting(held: Held, shape: Sequence[int], group: int) -> tuple[Held, int]:
    """How a matrix of that shape can be held, and its group: the wanted one, or a smaller."""
    if held == "none" or len(shape) != 2 or shape[0] < SMALL:
        return "none", 0
    if held == "fp8":
        # An odd number of bytes would move the float16 scales behind them to an odd address.
        return ("none" if shape[0] * shape[1] % 2 else "fp8"), 0
    # Eight bits need no small groups, in two planes neither.
    sizes = (group, min(GROUPS)) if held == "int4" else sorted(GROUPS, reverse=True)
    for size in sizes:
        if shape[0] % TILE_ROWS == 0 and shape[1] % size == 0:
            return held, size
    return "none", 0


def _files(items: list[Item]) -> list[list[Item]]:
    """Items by file. Kept tensors come first, the widest types before others, so that every tensor
    begins at a multiple of its type's size.
    """
    kept = [item for item in items if item.held == "none"]
    kept.sort(key=lambda item: -item.dtype.itemsize)
    quantized = [item for item in items if item.held != "none"]
    files: list[list[Item]] = [[]]
    size_bytes = 0
    for item in (*kept, *sorted(quantized, key=lambda item: item.held)):
        if files[-1] and size_bytes + item.size_bytes > SHARD_BYTES:
            files.append([])
            size_bytes = 0
        files[-1].append(item)
        size_bytes += item.size_bytes
    return files
