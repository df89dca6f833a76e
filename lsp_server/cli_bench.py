"""`qcoder bench`."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from typing import Any

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
    from qcoder.lsp_server.bench_context import run

    return run()


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
