"""How a training run is spread over its time: row lengths, learning rate, quantization.

Everything goes by the share of the planned time that is spent, so that a slow or busy machine still
ends with a finished schedule: warm-up, stable, linear decay to zero (WSD, arXiv 2404.06395).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phase:
    """From `begins` (a share of the time) on, a step is `accumulate` batches [rows, length].

    `clean_share` of the items come from the cleanest files only.
    """

    begins: float
    length: int
    rows: int
    accumulate: int
    clean_share: float = 0.0

    @property
    def tokens(self) -> int:
        """Tokens of one optimizer step."""
        return self.length * self.rows * self.accumulate


@dataclass(frozen=True, slots=True)
class Schedule:
    """Phases in order, and the shares of the time at which the last parts begin.

    `decay_from`: learning rate falls; `quantize_from`: matrices are rounded in the forward pass as
    the export will round them; `settle_from`: the router bias, which the exported architecture
    lacks, fades out; `peak`: the largest factor of the learning rates.
    """

    phases: tuple[Phase, ...]
    decay_from: float = 0.7
    quantize_from: float = 0.85
    settle_from: float = 0.9
    warmup_steps: int = 60
    peak: float = 1.0

    def phase(self, share: float) -> Phase:
        """The phase that a share of the time belongs to."""
        return max((p for p in self.phases if p.begins <= share), key=lambda p: p.begins)

    def lr_scale(self, share: float, step: int) -> float:
        """Factor of the learning rates at a share of the time and a count of steps."""
        warm = min(1.0, (step + 1) / self.warmup_steps)
        cool = min(1.0, max(0.0, (1 - share) / (1 - self.decay_from)))
        return self.peak * warm * cool


# Short rows first: attention is the dearest part of a step on a CPU. "further" goes on from weights whose
# learning rate had come down: at the full rate they would first lose a quarter of a nat.
SCHEDULES = {
    "cpu": Schedule((Phase(0.0, 256, 32, 1), Phase(0.15, 512, 16, 2), Phase(0.8, 1024, 8, 2, 0.5))),
    "further": Schedule(
        (Phase(0.0, 512, 16, 2), Phase(0.7, 1024, 8, 2, 0.5)), decay_from=0.05, peak=0.4
    ),
    "gpu": Schedule(
        (
            Phase(0.0, 512, 256, 1),
            Phase(0.1, 1024, 256, 2),
            Phase(0.75, 1024, 256, 2, 0.5),
            Phase(0.9, 2048, 128, 2, 0.5),
        ),
        warmup_steps=100,
    ),
    "smoke": Schedule((Phase(0.0, 128, 32, 1), Phase(0.6, 256, 16, 1)), warmup_steps=20),
}
