"""What the stages of the GPU benchmark share and find."""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass, field

import torch

from gpu_shapes.checkpoints import SHAPES, Shape
from qcoder.kernels.gpu.matrix import Kind

KINDS: tuple[Kind, ...] = ("int4", "fp8", "int8", "float")


@dataclass(slots=True)
class Run:
    """What the stages share and find."""

    device: str
    rehearsal: bool
    bandwidth: float = 0.0
    peak: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, value: float) -> None:
        """Keep a figure and say it."""
        self.figures[name] = round(value, 5)
        print(f"{name}: {value:.5g}", file=sys.stderr, flush=True)

    def shape(self, name: str) -> Shape:
        """A model's shape, or its small one."""
        return SHAPES[("tiny-next" if name == "next" else "tiny") if self.rehearsal else name]

    def tokens(self, count: int) -> int:
        """A length, short in a rehearsal."""
        return min(count, 96) if self.rehearsal else count


def share(run: Run, name: str, used: float, took: float) -> None:
    """Bytes a second over those of a copy."""
    run.add(f"{name}: microseconds", took * 1e6)
    run.add(f"{name}: share of copy bandwidth", used / took / run.bandwidth)


def free() -> None:
    """Give memory back before the next model."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
