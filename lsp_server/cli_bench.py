"""`qcoder bench`."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qcoder.context.index import Index
from qcoder.lsp_server.cli_engine import load_engine
from qcoder.model.bench_report import report
from qcoder.model.engine import Engine
from qcoder.model.request import GenerationRequest, Prompt

ROUNDS = 7


def bench(args: argparse.Namespace) -> int:
    """Run one benchmark and print it."""
    result = BENCHES[args.what](args.model)
    if args.format == "json":
        print(json.dumps(result))
        return 0
    for name, value in result["figures"].items():
        print(f"{name:32} {value}")
    for target in result["targets"]:
        mark = "holds" if target["holds"] else "MISSED"
        print(f"{mark}: {target['figure']} {target['op']} {target['target']}")
    return 0


def _ids(count: int, vocab: int, seed: int) -> tuple[int, ...]:
    """Pseudo-random token ids beyond the special ones."""
    return tuple(64 + (i * 7919 + seed * 104_729) % (vocab - 64) for i in range(count))


def _run(engine: Engine, ids: tuple[int, ...], tokens: int) -> None:
    list(engine.generate(GenerationRequest(Prompt(ids), max_tokens=tokens, mixture=False)))


def _decode(name: str) -> dict[str, Any]:
    engine = load_engine(name)
    rates = []
    for seed in range(ROUNDS):
        ids = _ids(200, engine.tokenizer.vocab_size, seed)
        _run(engine, ids, 32)
        last = engine.stats().last
        if last.generated_tokens > 1:
            rates.append(1000 * last.generated_tokens / last.decode_ms)
    return report({"decode_tokens_per_s": round(statistics.median(rates), 1)})


def _prefill(name: str) -> dict[str, Any]:
    engine = load_engine(name)
    figures = {}
    for length in (64, 256, 512):
        rates = []
        for seed in range(ROUNDS):
            _run(engine, _ids(length, engine.tokenizer.vocab_size, seed + length), 1)
            rates.append(1000 * length / engine.stats().last.prefill_ms)
        figures[f"prefill_{length}_tokens_per_s"] = round(statistics.median(rates), 1)
    return report(figures)


def _reuse(name: str) -> dict[str, Any]:
    engine = load_engine(name)
    cold, warm, reused = [], [], 0
    for seed in range(ROUNDS):
        ids = _ids(500, engine.tokenizer.vocab_size, seed)
        _run(engine, ids, 1)
        cold.append(engine.stats().last.prefill_ms)
        _run(engine, (*ids, 70, 71, 72), 1)
        warm.append(engine.stats().last.prefill_ms)
        reused = engine.stats().last.reused_tokens
    return report(
        {
            "cold_prefill_ms": round(statistics.median(cold), 2),
            "appended_prefill_ms": round(statistics.median(warm), 2),
            "reused_tokens": reused,
        }
    )


def _index(_: str) -> dict[str, Any]:
    from qcoder.lsp_server.bench_index import run

    return run()


def _context(_: str) -> dict[str, Any]:
    from qcoder.context.pack import pack
    from qcoder.lsp_server.headless import snapshot_of_file
    from qcoder.lsp_server.settings import Settings

    root = Path(__file__).resolve().parents[1]
    index = Index.open(root)
    index.refresh()
    snapshot = snapshot_of_file(Path(__file__), root, Settings(), index)
    figures = {}
    for budget in (512, 2048, 8192, 32_768):
        times = []
        for line in range(20, 20 + 5 * ROUNDS, 5):
            began = time.perf_counter()
            pack(
                index,
                snapshot.document,
                snapshot.path,
                line,
                0,
                budget,
                lambda text: len(text) // 4,
            )
            times.append(1000 * (time.perf_counter() - began))
        figures[f"pack_{budget}_ms"] = round(statistics.median(times), 2)
    return report(figures, notes=["tokens are counted as a quarter of the characters"])


def _lsp(name: str) -> dict[str, Any]:
    from qcoder.lsp_server.bench_lsp import run

    return run(name)


BENCHES: dict[str, Callable[[str], dict[str, Any]]] = {
    "decode": _decode,
    "prefill": _prefill,
    "reuse": _reuse,
    "index": _index,
    "context": _context,
    "lsp": _lsp,
}
