"""Continues the training of a network on a little text, without losing what it knew.

No text of the first training is at hand, so three things guard against forgetting: a small learning
rate that falls to zero by wall-clock time, an early stop when the loss on files that are not trained
on has stopped falling, and interpolation: what is kept is a point on the line between the old and
the new weights (Wortsman et al., arXiv 2109.01903), chosen by the same files.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from qcoder.training.checkpoints import make_optimizer, split_names
from qcoder.training.items import Rows, Source
from qcoder.training.muon import Muon
from qcoder.training.network import Network

ROW_TOKENS, ROWS_A_STEP = 768, 6
"""Rows as long as the server's prompt and answer; longer ones cost more a token."""

HELD_OUT_TOKENS, ROWS_A_BATCH = 1024, 4
MATRIX_LR, OTHER_LR = 0.005, 5e-4
"""Peak rates of Muon and AdamW: a quarter of those of the first training."""

WARMUP_STEPS, WARMUP_SHARE = 20, 0.1
"""Warm-up ends with the earlier of the two: a slow machine has few steps in all."""

BALANCE_LOSS = 0.01
MAX_CHECKS, CHECK_SHARE, PATIENCE = 12, 0.12, 3
"""Looks at the loss: at most so many, in so much of the time, and this many without gain end it."""

MAX_STEP_SECONDS = 30.0
"""A process that was stopped for a while does not lose its schedule."""

SHARES = (0.25, 0.5, 0.75, 1.0)

Weights: TypeAlias = dict[str, Tensor]
"""Float32 tensors by the parameter names of `Network`."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is. `bits_per_byte` is the latest look at the files that choose."""

    share: float
    tokens: int
    tokens_per_second: float
    loss_nats: float
    bits_per_byte: float


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """What a run came to: the chosen weights and what it took.

    `share` is how far they are from the old weights towards the best trained ones;
    `bits_before` and `bits_after` are per byte of the files that choose.
    """

    weights: Weights
    share: float
    bits_before: float
    bits_after: float
    tokens: int
    steps: int
    seconds: float
    stopped_early: bool


class HeldOutLoss:
    """Bits per byte of a network on whole files, read from left to right behind their path."""

    def __init__(self, files: Sequence[Source], tokenizer: Tokenizer) -> None:
        self._batches: list[tuple[Tensor, Tensor]] = []
        self._bytes = max(sum(len(file.text.encode()) for file in files), 1)
        self.seconds = 0.0  # that the latest call took
        separator = tokenizer.get_vocab(with_added_tokens=True)["<|file_sep|>"]
        rows: list[NDArray[np.int64]] = []
        for file in files:
            header = [separator, *tokenizer.encode(file.path + "\n", add_special_tokens=False).ids]
            body = tokenizer.encode(file.text, add_special_tokens=False).ids
            room = HELD_OUT_TOKENS + 1 - len(header)
            for start in range(0, len(body), room):
                part = body[start : start + room]
                row = np.full((2, HELD_OUT_TOKENS + 1), -1, dtype=np.int64)
                row[0, : len(header) + len(part)] = header + part
                row[1, len(header) : len(header) + len(part)] = part
                rows.append(row)
        for first in range(0, len(rows), ROWS_A_BATCH):
            block = torch.from_numpy(np.stack(rows[first : first + ROWS_A_BATCH]))
            self._batches.append((block[:, 0, :-1].clamp(min=0), block[:, 1, 1:].contiguous()))

    @torch.no_grad()
    def __call__(self, network: Network) -> float:
        """Bits per byte; the network keeps its weights."""
        began, nats = time.monotonic(), 0.0
        for ids, targets in self._batches:
            loss, _, _ = network(ids, targets)
            nats += loss.item() * int((targets >= 0).sum())
        self.seconds = time.monotonic() - began
        return nats / math.log(2) / self._bytes


def tune(
    network: Network,
    rows: Rows,
    held_out: HeldOutLoss,
    seconds: float,
    report: Callable[[Progress], None],
) -> Tuned:
    """Train and choose within `seconds`; training ends early when the held-out loss stops falling.

    `network` comes in float32 and computes in what is faster here; the masters stay float32.
    """
    began = time.monotonic()
    old = weights_of(network)
    optimizer, names = _optimizer(network)
    dtype = faster_dtype()
    for parameter in network.parameters():
        parameter.data = parameter.data.to(dtype)
    before = held_out(network)
    limit = seconds - held_out.seconds * (len(SHARES) + 1)
    best, best_bits = old, before
    checks = max(2, min(MAX_CHECKS, int(CHECK_SHARE * limit / max(held_out.seconds, 1e-3))))
    bits, checked, worse = before, 0, 0
    tokens = steps = 0
    spent, last = 0.0, time.monotonic()
    while spent < limit and worse < PATIENCE:
        loss = _step(network, rows, optimizer, learning_rate(spent / limit, steps))
        steps += 1
        tokens += ROW_TOKENS * ROWS_A_STEP
        now = time.monotonic()
        spent, last = spent + min(now - last, MAX_STEP_SECONDS), now
        if min(spent / limit, 1.0) * checks >= checked + 1:
            checked = int(spent / limit * checks)
            bits = held_out(network)
            worse += 1
            if bits < best_bits:
                masters = (master.clone() for master in optimizer.masters)
                best, best_bits, worse = dict(zip(names, masters, strict=True)), bits, 0
        report(Progress(min(1.0, spent / limit), tokens, tokens / spent, loss, bits))
    share, after = choose_share(network, old, best, held_out)
    return Tuned(
        between(old, best, share), share, before, after, tokens, steps,
        time.monotonic() - began, worse >= PATIENCE,
    )  # fmt: skip


def choose_share(
    network: Network, old: Weights, new: Weights, held_out: HeldOutLoss
) -> tuple[float, float]:
    """The best of `SHARES` by the held-out loss, and that loss in bits per byte."""
    losses = {}
    for share in SHARES:
        _set_weights(network, between(old, new, share))
        losses[share] = held_out(network)
    best = min(losses, key=losses.__getitem__)
    return best, losses[best]


def between(old: Weights, new: Weights, share: float) -> Weights:
    """The point at `share` of the way from old to new."""
    return {name: torch.lerp(old[name], new[name], share) for name in old}


def weights_of(network: Network) -> Weights:
    """A float32 copy of a network's weights."""
    return {name: p.detach().float().clone() for name, p in network.named_parameters()}


def _set_weights(network: Network, weights: Weights) -> None:
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(weights[name])


def faster_dtype() -> torch.dtype:
    """Bfloat16 where this machine multiplies it faster than float32, else float32."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = torch.ones(512, 512, dtype=dtype), torch.ones(512, 512, dtype=dtype)
        times = []
        for _ in range(5):
            began = time.perf_counter()
            torch.mm(left, right)
            times.append(time.perf_counter() - began)
        seconds[dtype] = min(times)
    return min(seconds, key=seconds.__getitem__)


def _optimizer(network: Network) -> tuple[Muon, list[str]]:
    """The optimizer of the first training at lower rates; parameter names in its masters' order."""
    optimizer = make_optimizer(network)
    optimizer.matrix_lr, optimizer.other_lr = MATRIX_LR, OTHER_LR
    matrices, others = split_names([name for name, _ in network.named_parameters()])
    return optimizer, matrices + others


def _step(network: Network, rows: Rows, optimizer: Muon, rate: float) -> float:
    """One update; returns the loss in nats a token."""
    batch = torch.tensor([rows.row(ROW_TOKENS) for _ in range(ROWS_A_STEP)])
    loss, balance, _ = network(batch[:, :-1], batch[:, 1:])
    (loss + BALANCE_LOSS * balance).backward()
    optimizer.step(rate)
    return float(loss.item())


def learning_rate(share: float, step: int) -> float:
    """Factor of the peak rates: warm-up, then linear to zero by share of the time."""
    warm = max((step + 1) / WARMUP_STEPS, share / WARMUP_SHARE)
    return min(1.0, warm) * max(0.0, 1 - share)
