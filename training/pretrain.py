"""Trains the default model. One script for CPU and GPU, resumable, scheduled by wall-clock time.

    python -m qcoder.training.pretrain --corpus DIR --tokenizer FILE --run DIR --hours 12
    python -m qcoder.training.pretrain --smoke

Started again with the same run folder it goes on where it stopped; SIGTERM saves and ends it. The
schedule (`schedule.py`) goes by the share of `--hours` spent, summed over restarts: with a larger
figure it stays longer at the full learning rate, with a smaller one the decay comes sooner.
`--init` begins a new schedule from other weights: a checkpoint file or an exported model folder, the
latter best with `--schedule further`.
`--smoke` runs the whole way from text to an evaluated model in two minutes (`smoke.py`).
"""

from __future__ import annotations

import argparse
import json
import math
import queue
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from tqdm import tqdm

from qcoder.training import checkpoints
from qcoder.training.items import Corpus, Rows
from qcoder.training.muon import Muon
from qcoder.training.network import SIZES, Network
from qcoder.training.rounding import publish_rounded
from qcoder.training.schedule import SCHEDULES, Phase, Schedule

BALANCE_LOSS, BIAS_RATE, BIAS_FADE = 0.01, 1e-3, 0.97
AVERAGE_RATE = 0.002  # the averaged weights look back over about 500 steps
CHECKPOINT_SECONDS = 300
LONGEST_STEP = 30.0  # seconds; a stopped process or a compile must not eat the schedule
LOG_EVERY = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """What to train, on what, for how long; `init` is a checkpoint file or an exported folder."""

    corpus: Path
    tokenizer: Path
    run: Path
    hours: float
    size: str = "nano"
    schedule: Schedule = SCHEDULES["cpu"]
    init: Path | None = None
    device: str = "cpu"
    threads: int = 2
    seed: int = 1
    compile: bool = True


@dataclass(slots=True)
class Training:
    """Everything that changes while a run goes on."""

    network: Network
    optimizer: Muon
    average: list[Tensor]
    progress: dict[str, float]
    loss: float = math.nan

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        checkpoints.save(path, self.network, self.optimizer, self.average, self.progress)


def start(plan: Plan, vocab_size: int) -> Training:
    """Resume the run folder, or begin from `--init`, or anew."""
    config = replace(SIZES[plan.size], vocab_size=vocab_size)
    longest = max(phase.length for phase in plan.schedule.phases)
    own = plan.run / checkpoints.CHECKPOINT
    resumed = own.exists()
    init = own if resumed else plan.init
    network = checkpoints.starting_network(init, config, longest).to(plan.device)
    optimizer = checkpoints.make_optimizer(network)
    average = [m.clone() for m in optimizer.masters]
    progress = checkpoints.new_progress()
    if init is not None and init.is_file():
        state = checkpoints.read(init)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        for mine, saved in zip(average, state.get("average") or optimizer.masters, strict=True):
            mine.copy_(saved)
        saved_progress = state["progress"]
        progress |= saved_progress if resumed else {"tokens": saved_progress["tokens"]}
    elif init is not None:
        progress["tokens"] = checkpoints.tokens_seen(init)
    for p in network.parameters():
        p.data = p.data.bfloat16()
    if plan.device != "cpu":
        network.group_experts()
    if plan.compile:
        network.compile()
    return Training(network, optimizer, average, progress)


def prefetched(rows: Rows, phase: Phase) -> queue.Queue[np.ndarray]:
    """Batches made by a daemon thread, a few ahead."""
    batches: queue.Queue[np.ndarray] = queue.Queue(maxsize=4)

    def produce() -> None:
        for batch in rows.batches(phase.rows, phase.length):
            batches.put(batch)

    threading.Thread(target=produce, daemon=True).start()
    return batches


def accumulate(
    training: Training, batches: queue.Queue[np.ndarray], phase: Phase, device: str
) -> Tensor:
    """Gradients of one step; returns the expert loads [layers, experts] and updates the loss."""
    loads, total = torch.zeros((), device=device), 0.0
    for _ in range(phase.accumulate):
        batch = torch.from_numpy(batches.get()).to(device)
        loss, balance, load = training.network(batch[:, :-1], batch[:, 1:])
        ((loss + BALANCE_LOSS * balance) / phase.accumulate).backward()
        loads = loads + load
        total += loss.item() / phase.accumulate
    training.progress["tokens"] += phase.tokens
    training.loss = total if math.isnan(training.loss) else 0.95 * training.loss + 0.05 * total
    return loads


def update_bias(network: Network, loads: Tensor, settle: bool) -> None:
    """Loss-free balance (DeepSeek-V3): push the bias of busy experts down; loads: [layers, experts].

    The exported architecture has no router bias: `settle` fades it out before the end.
    """
    for layer, load in zip(network.layers, loads.float(), strict=True):
        if settle:
            layer.router_bias.mul_(BIAS_FADE)
        else:
            layer.router_bias.add_(torch.sign(load.mean() - load), alpha=BIAS_RATE)


def update_weights(training: Training, schedule: Schedule, share: float, loads: Tensor) -> float:
    """One optimizer step with all that goes with it; returns the gradient norm."""
    optimizer, network = training.optimizer, training.network
    norm = optimizer.step(schedule.lr_scale(share, int(training.progress["steps"])))
    if share >= schedule.quantize_from:
        named = dict(network.named_parameters())
        matrices, others = checkpoints.split_names(list(named))
        publish_rounded(named, dict(zip(matrices + others, optimizer.masters, strict=True)))
    update_bias(network, loads, share >= schedule.settle_from)
    torch._foreach_lerp_(training.average, optimizer.masters, AVERAGE_RATE)
    training.progress["steps"] += 1
    training.progress["share"] = share
    return norm


def log_row(training: Training, phase: Phase, norm: float, loads: Tensor, seconds: float) -> dict:
    """One row of `log.jsonl`; `load_cv` is the worst layer's coefficient of variation."""
    spread = (loads.float().std(-1) / loads.float().mean(-1)).max().item()
    return {
        **training.progress,
        "loss": round(training.loss, 4),
        "grad_norm": round(norm, 3),
        "load_cv": round(spread, 3),
        "tokens_per_second": round(phase.tokens / seconds),
    }


def steps(
    training: Training, plan: Plan, stopping: threading.Event
) -> Iterator[tuple[float, dict]]:
    """Train until the time is spent; yields share of the time and a log row every few steps."""
    tokenizer = Tokenizer.from_file(str(plan.tokenizer))
    corpus = Corpus(plan.corpus)
    seed = plan.seed + int(training.progress["steps"]) * 7919
    phase, batches = None, None
    planned, progress = plan.hours * 3600, training.progress
    last = last_save = time.monotonic()
    while progress["seconds"] < planned and not stopping.is_set():
        share = progress["seconds"] / planned
        if plan.schedule.phase(share) != phase:
            phase = plan.schedule.phase(share)
            corpus.clean_share = phase.clean_share
            batches = prefetched(Rows(corpus, tokenizer, seed + int(phase.begins * 1000)), phase)
        if progress.get("share", 0.0) < plan.schedule.decay_from <= share:
            training.save(plan.run / checkpoints.STABLE)
        loads = accumulate(training, batches, phase, plan.device)
        norm = update_weights(training, plan.schedule, share, loads)
        now = time.monotonic()
        seconds, last = now - last, now
        progress["seconds"] += min(seconds, LONGEST_STEP)
        if progress["steps"] % LOG_EVERY == 1:
            yield share, log_row(training, phase, norm, loads, seconds)
        if now - last_save > CHECKPOINT_SECONDS:
            training.save(plan.run / checkpoints.CHECKPOINT)
            last_save = now
    progress["share"] = min(1.0, progress["seconds"] / planned)


def show(bar: tqdm, log: TextIO, share: float, row: dict) -> None:
    """One row to the log file and the progress bar."""
    print(json.dumps(row), file=log, flush=True)
    bar.n = round(100 * share, 1)
    bar.set_postfix_str(
        f"{row['tokens'] / 1e6:.2f} M tokens, {row['tokens_per_second']} tokens/s, loss {row['loss']}"
    )


def train(plan: Plan) -> Training:
    """Run until the planned time is spent or SIGTERM comes; always leaves a checkpoint."""
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    plan.run.mkdir(parents=True, exist_ok=True)
    vocab_size = Tokenizer.from_file(str(plan.tokenizer)).get_vocab_size()
    training = start(plan, vocab_size)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    with (
        (plan.run / checkpoints.LOG).open("a") as log,
        tqdm(total=100, unit="%", mininterval=1.0, bar_format="{l_bar}{bar}|{postfix}") as bar,
    ):
        for share, row in steps(training, plan, stopping):
            show(bar, log, share, row)
    training.save(plan.run / checkpoints.CHECKPOINT)
    return training


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--run", type=Path, help="folder of the checkpoint and the log")
    parser.add_argument("--hours", type=float, default=12.0, help="of the whole schedule")
    parser.add_argument("--size", choices=[s for s in SIZES if s != "smoke"], default="nano")
    parser.add_argument("--init", type=Path, help="checkpoint file or exported model folder")
    parser.add_argument(
        "--schedule", choices=[s for s in SCHEDULES if s != "smoke"], help="default: by the device"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--smoke", action="store_true", help="everything, small, in two minutes")
    args = parser.parse_args()
    if args.smoke:
        from qcoder.training.smoke import smoke  # it calls this file

        print(json.dumps(smoke(args.run, args.threads, args.seed)))
        return
    if not (args.corpus and args.tokenizer and args.run):
        parser.error("--corpus, --tokenizer and --run are needed (or --smoke)")
    train(
        Plan(
            args.corpus, args.tokenizer, args.run, args.hours, args.size,
            SCHEDULES[args.schedule or ("cpu" if args.device == "cpu" else "gpu")], args.init,
            args.device, args.threads, args.seed, args.compile,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
