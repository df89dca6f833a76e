"""Trains the default model. One script, resumable, scheduled by wall-clock time.

    python -m qcoder.training.pretrain --corpus DIR --tokenizer FILE --run DIR --hours 2.2

The run folder holds `checkpoint.pt` (written every five minutes and at the end, atomically) and
`log.jsonl`. Started again with the same folder it goes on where it stopped. Progress is the share
of `--hours` spent, summed over restarts: warm-up, then constant, then linear to zero (WSD), so a
slow or busy machine still ends with a finished schedule. SIGTERM saves and ends the run. Rows get longer along the way: short rows
first, because attention is the dearest part of a step on a CPU.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import queue
import signal
import threading
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from qcoder.training.items import Corpus, Rows
from qcoder.training.muon import Muon
from qcoder.training.network import Network, NetworkConfig

# Share of the time at which a phase begins: (share, row length, rows a micro-batch, micro-batches).
PHASES = ((0.0, 256, 32, 1), (0.15, 512, 16, 2), (0.8, 1024, 8, 2))
WARMUP_STEPS, DECAY_FROM = 60, 0.65
BALANCE_LOSS, BIAS_RATE = 0.01, 1e-3
CHECKPOINT_SECONDS = 300


def lr_scale(share: float, step: int, decay_from: float = DECAY_FROM) -> float:
    """Warm-up by steps, then constant, then linear to zero by share of the time."""
    warm = min(1.0, (step + 1) / WARMUP_STEPS)
    cool = min(1.0, max(0.0, (1 - share) / (1 - decay_from)))
    return warm * cool


def prefetched(rows: Rows, phase: tuple[float, int, int, int]) -> queue.Queue[np.ndarray]:
    """Batches made by a daemon thread, a few ahead."""
    batches: queue.Queue[np.ndarray] = queue.Queue(maxsize=4)

    def produce() -> None:
        for batch in rows.batches(phase[2], phase[1]):
            batches.put(batch)

    threading.Thread(target=produce, daemon=True).start()
    return batches


def make_optimizer(network: Network) -> Muon:
    """Muon for the layers' matrices, AdamW for embedding, router and norms."""
    named = dict(network.named_parameters())
    matrices = [p for n, p in named.items() if n.endswith(("qkv", "out", "gate_up", "down"))]
    others = [p for n, p in named.items() if not n.endswith(("qkv", "out", "gate_up", "down"))]
    return Muon(matrices, others)


def save(path: Path, network: Network, optimizer: Muon, progress: dict[str, float]) -> None:
    """Write a checkpoint under a temporary name, then rename it."""
    state = {
        "config": asdict(network.config),
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": progress,
    }
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def update_bias(network: Network, loads: torch.Tensor) -> None:
    """Loss-free balance (DeepSeek-V3): push the bias of busy experts down; loads: [layers, experts]."""
    for layer, load in zip(network.layers, loads.float(), strict=True):
        layer.router_bias.add_(torch.sign(load.mean() - load), alpha=BIAS_RATE)


def train(args: argparse.Namespace) -> None:
    """Run until the planned time is spent."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    tokenizer = Tokenizer.from_file(str(args.tokenizer))
    config = NetworkConfig(vocab_size=tokenizer.get_vocab_size())
    network = Network(config, 2048)
    optimizer = make_optimizer(network)
    progress = {"seconds": 0.0, "tokens": 0, "steps": 0}
    args.run.mkdir(parents=True, exist_ok=True)
    path = args.run / "checkpoint.pt"
    if path.exists():
        state = torch.load(path, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        progress = state["progress"]
    for p in network.parameters():
        p.data = p.data.bfloat16()
    if args.compile:
        network.compile()
    corpus = Corpus(args.corpus)
    seed = args.seed + int(progress["steps"]) * 7919
    planned = args.hours * 3600
    phase, batches = None, None
    average = math.nan
    log = (args.run / "log.jsonl").open("a")
    last_save = last_time = time.monotonic()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    while progress["seconds"] < planned and not stopping.is_set():
        share = progress["seconds"] / planned
        wanted = max(p for p in PHASES if p[0] <= share)
        if wanted != phase:
            phase = wanted
            batches = prefetched(Rows(corpus, tokenizer, seed + int(phase[0] * 1000)), phase)
        loads, total = None, 0.0
        for _ in range(phase[3]):
            batch = torch.from_numpy(batches.get())
            loss, balance, load = network(batch[:, :-1], batch[:, 1:])
            ((loss + BALANCE_LOSS * balance) / phase[3]).backward()
            loads = load if loads is None else loads + load
            total += loss.item() / phase[3]
            progress["tokens"] += batch.shape[0] * phase[1]
        norm = optimizer.step(lr_scale(share, int(progress["steps"])))
        if share < 0.9:
            update_bias(network, loads)
        else:
            # The exported architecture has no router bias: fade it out before the end.
            for layer in network.layers:
                layer.router_bias.mul_(0.97)
        progress["steps"] += 1
        average = total if math.isnan(average) else 0.95 * average + 0.05 * total
        now = time.monotonic()
        step_seconds, last_time = now - last_time, now
        # A stopped process (SIGSTOP) or a compile must not eat the schedule.
        progress["seconds"] += min(step_seconds, 30.0)
        if progress["steps"] % 10 == 1:
            spread = (loads.float().std(-1) / loads.float().mean(-1)).max().item()
            row = {
                **progress,
                "loss": round(average, 4),
                "grad_norm": round(norm, 3),
                "load_cv": round(spread, 3),
                "tokens_per_second": round(phase[1] * phase[2] * phase[3] / step_seconds),
            }
            print(json.dumps(row), file=log, flush=True)
            print(f"\r{share:6.1%} {row}", end="", flush=True)
        if now - last_save > CHECKPOINT_SECONDS:
            save(path, network, optimizer, progress)
            last_save = now
    save(path, network, optimizer, progress)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=2.2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
