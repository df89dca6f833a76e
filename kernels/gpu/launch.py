"""One way to launch a kernel, so that launches can be counted and compiled without being run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from qcoder.kernels.gpu.configs import Config


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch of a kernel: its arguments in order and the constants that it is compiled for."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: tuple[Tensor | int | float | None, ...]
    constants: dict[str, Any]
    config: Config

    @property
    def name(self) -> str:
        """The kernel's, without the leading underscore."""
        return str(self.kernel.__name__).lstrip("_")


_recording: list[Launch] | None = None


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Collect the launches made within, without running them; tensors may be of device `meta`."""
    global _recording  # noqa: PLW0603 (one recording a process, by tests and benchmarks)
    _recording, before = [], _recording
    try:
        yield _recording
    finally:
        _recording = before


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    config: Config,
    *arguments: Tensor | int | float | None,
    **constants: Any,
) -> None:
    """Run `kernel` on the device of its tensors."""
    if _recording is not None:
        _recording.append(Launch(kernel, grid, arguments, constants, config))
        return
    kernel[grid](
        *arguments, num_warps=config.warps, num_stages=config.stages, enable_fp_fusion=True,
        **constants,
    )  # fmt: skip
