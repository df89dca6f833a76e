"""What reusing moved text costs and saves: divergence from a full prefill, tokens and time.

    python -P benchmarks/kv_reuse.py [--prompts 1000] [--root DIR] [--model default] [--format json]

A prompt of 1,000 tokens of code is computed, then a line in its middle is replaced by one or two other
lines of the same file, and the new prompt is computed twice: from nothing, and with what `balanced` and
`fast` reuse of the old one. Compared are the distributions of the next token (Kullback-Leibler
divergence in nats, greedy choice). What rounding alone does is shown by `layout`: the same prompt computed
from nothing, its tokens in other pages. Times are those to the first token, as an engine counts them, for
1,000 and 8,000 tokens; for the latter the positions of the default model are stretched. For a restart,
32,768 tokens that stay the same are kept on disk by one process and wanted by another.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from qcoder.model.bench_report import Target, report
from qcoder.model.decoder import Pass
from qcoder.model.generation import to_compute
from qcoder.model.local import LocalEngine
from qcoder.model.manifest import MANIFEST
from qcoder.model.native_model import NativeModel
from qcoder.model.paged_cache import Page, PagedSequence
from qcoder.model.prefix_cache import common_prefix
from qcoder.model.request import GenerationRequest, Prompt
from qcoder.model.segment_reuse import MODES, ReuseMode, reusable

TOKENS = 1000
STABLE = 32768
PROCESS = """
import json, sys
from pathlib import Path
from qcoder.model.decoder import Pass
from qcoder.model.generation import to_compute
from qcoder.model.local import LocalEngine
from qcoder.model.request import GenerationRequest, Prompt
model, folder, count = sys.argv[1:]
ids = json.loads((Path(folder) / "ids.json").read_text())
engine = LocalEngine.load(model, yarn_factor=33.0, max_context=len(ids) + 64, reuse="balanced")
engine.keep_on_disk(Path(folder))
first = None
for number in range(int(count)):
    prompt = Prompt((*ids, 5 + number, 6, 7))
    list(engine.generate(GenerationRequest(prompt, max_tokens=1, mixture=False)))
    first = first or engine.stats().last
engine.maintain()
size = sum(p.stat().st_size for p in Path(folder).rglob("*.kv"))
print(first.prefill_ms, first.reused_tokens / len(ids), size)
"""
Pair = tuple[list[int], list[int]]


def texts(root: Path, rng: random.Random) -> Iterator[list[str]]:
    """Lines of source files of some size, in random order, again and again."""
    files = sorted(p for p in root.rglob("*.py") if "site-packages" not in p.parts)
    files = [p for p in files if p.stat().st_size > 8000]
    while files:
        rng.shuffle(files)
        for path in files:
            yield path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)


def edited(engine: LocalEngine, root: Path, count: int, size: int, seed: int) -> list[Pair]:
    """Prompts of `size` tokens before and after an edit of their middle."""
    rng, pairs = random.Random(seed), []
    encode = engine.tokenizer.encode
    for lines in texts(root, rng):
        start = rng.randrange(len(lines))
        part = [*lines[start:], *lines[:start]]
        while sum(map(len, part)) < 6 * size:
            part += lines
        lengths, at = 0, 0
        while lengths < size // 2:
            lengths += len(encode(part[at]))
            at += 1
        new = [rng.choice(lines) for _ in range(rng.choice((1, 1, 2)))]
        before = encode("".join(part[: 4 * at]))[:size]
        after = encode("".join([*part[: at - 1], *new, *part[at : 4 * at]]))
        after = after[: size + rng.randint(-8, 8)]
        if len(before) == size and common_prefix(before, after) < size * 0.7:
            pairs.append((before, after))
        if len(pairs) == count:
            break
    return pairs


def with_reuse(
    model: NativeModel, old: PagedSequence, ids: list[int], mode: ReuseMode
) -> tuple[torch.Tensor, float]:
    """Log probabilities of the next token, and the share of tokens that were computed."""
    shared = common_prefix(old.ids, ids)
    moved = reusable(ids, shared, [old], mode)
    sequence = old.copy_prefix(min(shared, len(ids) - 1))
    new = to_compute(ids, len(sequence), len(ids), moved)
    (logits,) = model.compute([Pass(new, sequence, 1, prefill=True, moved=moved)])
    return logits[-1].log_softmax(-1), len(new) / len(ids)


def with_other_pages(model: NativeModel, ids: list[int]) -> torch.Tensor:
    """Log probabilities of the next token, computed from nothing with a page that begins elsewhere."""
    sequence = model.new_sequence()
    model.forward(ids[:17], sequence)
    sequence._append(Page(model._store), 17, 0)
    return model.forward(ids[17:], sequence).log_softmax(-1)


@torch.inference_mode()
def quality(model: NativeModel, pairs: list[Pair]) -> dict[str, float]:
    """Divergence and agreement of each mode."""
    rows: dict[str, list[tuple[float, bool, float]]] = {}
    for number, (before, after) in enumerate(pairs):
        old = model.new_sequence()
        model.forward(before, old)
        full = model.forward(after, model.new_sequence()).log_softmax(-1)
        modes = [(name, mode) for name, mode in MODES.items() if mode is not None]
        ways = {name: with_reuse(model, old, after, mode) for name, mode in modes}
        ways["layout"] = with_other_pages(model, after), 1.0
        for name, (found, share) in ways.items():
            divergence = float((full.exp() * (full - found)).sum())
            same = bool(full.argmax() == found.argmax())
            rows.setdefault(name, []).append((divergence, same, share))
        if number % 50 == 0:
            print(f"{number} prompts", file=sys.stderr)
    figures = {}
    for name, found_rows in rows.items():
        divergences = sorted(row[0] for row in found_rows)
        figures[f"{name}_mean_kl_nats"] = statistics.mean(divergences)
        figures[f"{name}_p99_kl_nats"] = divergences[int(0.99 * len(divergences))]
        figures[f"{name}_greedy_agreement"] = statistics.mean(row[1] for row in found_rows)
        figures[f"{name}_computed_share"] = statistics.mean(row[2] for row in found_rows)
    return figures


@torch.inference_mode()
def exact_is_exact(model: NativeModel, pairs: list[Pair]) -> float:
    """1 if a prefix from the cache gives the bits of a full prefill, for every pair."""
    for before, after in pairs:
        old = model.new_sequence()
        model.forward(before, old)
        sequence = old.copy_prefix(min(common_prefix(before, after), len(after) - 1))
        found = model.forward(after[len(sequence) :], sequence)
        if not torch.equal(found, model.forward(after, model.new_sequence())):
            return 0.0
    return 1.0


def first_token_ms(engine: LocalEngine, ids: list[int]) -> float:
    """Milliseconds of the prefill of one generation."""
    list(engine.generate(GenerationRequest(Prompt(tuple(ids)), max_tokens=1, mixture=False)))
    return engine.stats().last.prefill_ms


def times(model: str, root: Path, size: int, rounds: int) -> dict[str, float]:
    """Median time to the first token: cold, and after an edit."""
    colds, warms, shares = [], [], []
    factor = None if size <= TOKENS else 16.0
    engine = LocalEngine.load(model, yarn_factor=factor, max_context=size + 64, reuse="balanced")
    for before, after in edited(engine, root, rounds, size, seed=2):
        fresh = LocalEngine.load(model, yarn_factor=factor, max_context=size + 64, reuse="balanced")
        first_token_ms(fresh, before[:64])
        colds.append(first_token_ms(fresh, before))
        warms.append(first_token_ms(fresh, after))
        shares.append(1 - fresh.stats().last.reused_tokens / len(after))
    return {
        f"cold_{size}_ms": statistics.median(colds),
        f"edited_{size}_ms": statistics.median(warms),
        f"edited_{size}_over_cold": statistics.median(
            warm / cold for warm, cold in zip(warms, colds, strict=True)
        ),
        f"edited_{size}_computed_share": statistics.median(shares),
    }


def moved_share(engine: LocalEngine, root: Path) -> float:
    """Share of tokens that are computed when one of four files of a pack moves to its end."""
    shares = []
    for number in range(20):
        rng = random.Random(number)
        parts = [engine.tokenizer.encode("".join(next(texts(root, rng))))[:220] for _ in range(4)]
        model = engine._model
        assert isinstance(model, NativeModel)
        with torch.inference_mode():
            old = model.new_sequence()
            model.forward([token for part in parts for token in part], old)
            new = [token for part in (parts[0], *parts[2:], parts[1]) for token in part]
            mode = MODES["balanced"]
            assert mode is not None
            shares.append(with_reuse(model, old, new, mode)[1])
    return statistics.median(shares)


def restarted(engine: LocalEngine, model: str, root: Path) -> dict[str, float]:
    """What a second process has to compute of a long prompt whose beginning the first one kept on disk."""
    ids: list[int] = []
    for lines in texts(root, random.Random(4)):
        ids += engine.tokenizer.encode("".join(lines))
        if len(ids) >= STABLE:
            break
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "ids.json").write_text(json.dumps(ids[:STABLE]))
        cold_ms, _, size_bytes = long_prompts(model, folder, 2)
        warm_ms, share, _ = long_prompts(model, folder, 1)
    return {
        "restart_first_token_ms": warm_ms,
        "restart_cold_ms": cold_ms,
        "restart_reused_share": share,
        "restart_disk_mb": size_bytes / 1e6,
    }


def long_prompts(model: str, folder: str, count: int) -> list[float]:
    """A process of its own: milliseconds to the first token of its first prompt, the share of its stable tokens
    that was reused, bytes on disk.
    """
    arguments = [model, folder, str(count)]
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROCESS, *arguments], check=True, stdout=subprocess.PIPE
    )
    return [float(word) for word in done.stdout.split()]


def record(folder: Path, figures: dict[str, float]) -> None:
    """Let later loads of the model know; a mode that lost too much is then not used."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["kv_reuse"] = {
        name: {what: figures[f"{name}_{what}"] for what in ("mean_kl_nats", "greedy_agreement")}
        for name, mode in MODES.items()
        if mode is not None
    }
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--model", default="default")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument(
        "--record", action="store_true", help="write what was lost into the model's MANIFEST.json"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text")
    args = parser.parse_args()
    engine = LocalEngine.load(args.model, reuse="balanced")
    model = engine._model
    if not isinstance(model, NativeModel):
        sys.exit("the compiled kernels are not installed, and only they reuse moved text")
    pairs = edited(engine, args.root, args.prompts, TOKENS, seed=1)
    figures = quality(model, pairs)
    figures["exact_bit_identical"] = exact_is_exact(model, pairs[:50])
    figures["moved_file_computed_share"] = moved_share(engine, args.root)
    for size in (TOKENS, 8 * TOKENS):
        rounds = args.rounds if size == TOKENS else max(3, args.rounds // 3)
        figures |= times(args.model, args.root, size, rounds)
    figures |= restarted(engine, args.model, args.root)
    figures = {name: round(value, 5) for name, value in figures.items()}
    targets = [
        Target("balanced_mean_kl_nats", "<=", 0.01),
        Target("balanced_greedy_agreement", ">=", 0.98),
        Target("exact_bit_identical", ">=", 1.0),
        Target("moved_file_computed_share", "<=", 0.15),
        Target(f"edited_{TOKENS}_over_cold", "<=", 0.15),
        Target(f"edited_{8 * TOKENS}_over_cold", "<=", 0.15),
        Target("restart_reused_share", ">=", 0.95),
    ]
    if args.record:
        record(Path(engine.info.path), figures)
    notes = [f"{len(pairs)} prompts of {TOKENS} tokens of Python, one line of the middle replaced"]
    result = report(figures, targets, notes=notes)
    if args.format == "json":
        print(json.dumps(result, indent=1))
        return
    for name, value in figures.items():
        print(f"{name:36} {value}")


if __name__ == "__main__":
    main()
