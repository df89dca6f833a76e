"""Keys and values in int8 beside float16: what that changes in what is predicted, and in speed.

    python -P benchmarks/kv_int8.py --format json [--root DIR] [--model NAME --tokens 4000]

The default model reads 1,000 tokens of each file of a folder (our own sources by default, which it was
not trained on) with both, and the distributions of the next token are compared: Kullback-Leibler
divergence in nats a token, and the share of tokens whose likeliest successor is the same. Speed, of
`--model` if it is given: a prompt of `--tokens`, and a token behind it, alternately, as medians of
the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qcoder.lsp_server.demo import python_sources
from qcoder.model.bench_report import Target, report
from qcoder.model.generation import PREFILL_CHUNK
from qcoder.model.local import LocalEngine
from qcoder.model.native_model import NativeModel

READ = 1000
"""Tokens of a file."""

TARGETS = (
    Target("nats", "<=", 0.005),
    Target("agreement", ">=", 0.98),
    Target("bytes_over_float16", "<=", 0.55),
)


def pair(name: str, context: int, threads: int) -> tuple[NativeModel, NativeModel, LocalEngine]:
    """The model with float16, with int8, and an engine for its tokenizer."""
    engines = [
        LocalEngine.load(name, max_context=context, threads=threads, kv_cache=kv)
        for kv in ("float16", "int8")
    ]
    first, second = (engine._model for engine in engines)
    if not isinstance(first, NativeModel) or not isinstance(second, NativeModel):
        raise SystemExit(f"{name} does not run in the compiled kernels here")
    return first, second, engines[0]


def quality(root: Path, files: int) -> dict[str, Any]:
    """Figures of the default model."""
    first, second, engine = pair("default", READ, 1)
    paths = list(python_sources(root.resolve()))
    nats, same, tokens = 0.0, 0, 0
    for path in paths[:: max(1, len(paths) // files)][:files]:
        ids = engine.tokenizer.encode(path.read_text(encoding="utf-8", errors="replace"))
        ids = list(ids[:READ])
        if len(ids) < READ // 4:
            continue
        meant, found = (_all_logits(model, ids) for model in (first, second))
        nats += float((meant.exp() * (meant - found)).sum())
        same += int((meant.argmax(-1) == found.argmax(-1)).sum())
        tokens += len(ids)
    sizes = [model.new_sequence()._store.page_bytes for model in (first, second)]
    return {
        "tokens": tokens,
        "nats": round(nats / tokens, 5),
        "agreement": round(same / tokens, 4),
        "bytes_over_float16": round(sizes[1] / sizes[0], 3),
    }


def _all_logits(model: NativeModel, ids: list[int]) -> Tensor:
    with torch.inference_mode():
        return model.forward(ids, model.new_sequence(), all_logits=True).log_softmax(-1)


def speed(name: str, tokens: int, threads: int, rounds: int) -> dict[str, Any]:
    """Ratios of times, float16 over int8."""
    first, second, _ = pair(name, tokens + 64, threads)
    ids = [(7919 * i) % 8000 for i in range(tokens)]
    prefill, decode = [], []
    for _ in range(rounds):
        times = [_times(model, ids) for model in (first, second)]
        prefill.append(times[0][0] / times[1][0])
        decode.append(times[0][1] / times[1][1])
    return {
        "prompt_tokens": tokens,
        "prefill_speedup": round(statistics.median(prefill), 3),
        "decode_speedup": round(statistics.median(decode), 3),
        "prefill_s": round(times[1][0], 3),
        "decode_ms": round(1000 * times[1][1], 3),
    }


def _times(model: NativeModel, ids: list[int]) -> tuple[float, float]:
    sequence, steps = model.new_sequence(), []
    with torch.inference_mode():
        began = time.perf_counter()
        for start in range(0, len(ids), PREFILL_CHUNK):
            model.forward(ids[start : start + PREFILL_CHUNK], sequence)
        prefill = time.perf_counter() - began
        for token in ids[:24]:
            began = time.perf_counter()
            model.forward([token], sequence)
            steps.append(time.perf_counter() - began)
    return prefill, statistics.median(steps)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--model", default="default")
    parser.add_argument("--tokens", type=int, default=900)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    options = parser.parse_args(arguments)
    figures = quality(options.root, options.files)
    figures |= speed(options.model, options.tokens, options.threads, options.rounds)
    note = f"speed: {Path(options.model).name}, {options.threads} threads, {options.rounds} rounds"
    done = report(figures, TARGETS, notes=[note])
    if options.format == "json":
        print(json.dumps(done, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:24} {value:.4g}")
    return 0 if all(target["holds"] for target in done["targets"]) else 1


if __name__ == "__main__":
    sys.exit(main())
