"""`qcoder bench context`: time of ranking and packing, use of the budget, stability while typing.

The workspace is the tree of `qcoder bench index`: a million lines of installed packages. Positions
are seeded line ends of its files; each is packed four times, the median of the last three counts,
with the counts of tokens remembered. Typing appends the words of other files' lines inside a file, one
edit after the other; what counts is the share of the stable tier's tokens before the first that differs.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from qcoder.context.index import Index
from qcoder.context.pack import pack, render
from qcoder.context.segments import Document, PackedContext, Tier
from qcoder.lsp_server.bench_index import make_tree
from qcoder.lsp_server.pauses import keep_what_is_there, search_seldom
from qcoder.model.bench_report import Target, report
from qcoder.model.registry import DEFAULT_FOLDER
from qcoder.model.tokenizer import Tokenizer

SEED = 20
POSITIONS = {2048: 40, 8192: 40, 32_768: 20, 1_000_000: 6}
LARGEST = 1_000_000
EDITS = 50
COUNTED = 3
EDIT_BUDGETS = (8192, 32_768)
MIN_LINES = 60
MAX_LINES = 2000
LABELS = {2048: "2k", 8192: "8k", 32_768: "32k", 1_000_000: "1m"}
TARGETS = (
    Target("pack_2k_p95_ms", "<=", 30.0),
    Target("pack_8k_p95_ms", "<=", 30.0),
    Target("pack_32k_p95_ms", "<=", 100.0),
    Target("pack_1m_p95_ms", "<=", 500.0),
    Target("tokens_1m", "<=", float(LARGEST)),
    Target("used_1m", ">=", 0.98),
    Target("stable_kept_8k", ">=", 0.95),
    Target("stable_kept_32k", ">=", 0.95),
)


def run() -> dict[str, Any]:
    """Make the tree, index it, pack at positions, type; the report of DESIGN."""
    with tempfile.TemporaryDirectory(prefix="qcoder-bench-") as folder:
        root = Path(folder) / "tree"
        packages = make_tree(root)
        index = Index.open(root, Path(folder) / "cache")
        built = index.refresh()
        search_seldom()  # as the server does
        keep_what_is_there()
        figures: dict[str, float] = {"files": built.files, "lines": built.lines}
        tokenizer = Tokenizer.load(DEFAULT_FOLDER)
        files = _files(index)
        for budget, positions in POSITIONS.items():
            figures |= _pack_times(index, files, tokenizer, budget, positions)
        for budget in EDIT_BUDGETS:
            figures[f"stable_kept_{LABELS[budget]}"] = _kept(index, files, tokenizer, budget)
    rounded = {name: round(value, 3) for name, value in figures.items()}
    notes = [
        f"tree: {', '.join(packages)} from this environment",
        "times are of this thread on the clock, with remembered counts of tokens; cpu_ms is its processor time",
        "tokens are those of the shipped model's tokenizer, counted again over the whole prompt",
    ]
    return report(rounded, TARGETS, seed=SEED, notes=notes)


def _files(index: Index) -> list[tuple[str, str]]:
    """Python files of a usual length with their texts, in seeded order."""
    paths = [path for path in index.paths() if path.endswith(".py")]
    random.Random(SEED).shuffle(paths)
    found = []
    for path in paths[:400]:
        text = index.text(path)
        if text is not None and MIN_LINES <= text.count("\n") <= MAX_LINES:
            found.append((path, text))
    return found


def _pack_times(
    index: Index, files: list[tuple[str, str]], tokenizer: Tokenizer, budget: int, positions: int
) -> dict[str, float]:
    rng = random.Random(SEED)
    clock, processor, used, tokens = [], [], [], []
    for path, text in files[:positions]:
        line = rng.randrange(20, text.count("\n"))
        document = Document(f"file:///{path}", 1, "python", text)
        recent = [other for other, _ in rng.sample(files, 3)]
        rows = []
        for _ in range(1 + COUNTED):
            began, spent = time.perf_counter(), time.thread_time()
            packed = pack(index, document, path, line, 9999, budget, tokenizer.count, recent)
            rows.append((time.perf_counter() - began, time.thread_time() - spent))
        clock.append(1000 * statistics.median(row[0] for row in rows[1:]))
        processor.append(1000 * statistics.median(row[1] for row in rows[1:]))
        used.append(packed.tokens / budget)
        tokens.append(_prompt_tokens(packed, tokenizer) if budget == LARGEST else packed.tokens)
    label = LABELS[budget]
    return {
        f"pack_{label}_p50_ms": statistics.median(clock),
        f"pack_{label}_p95_ms": _p95(clock),
        f"pack_{label}_cpu_p95_ms": _p95(processor),
        f"used_{label}": statistics.median(used),
        f"tokens_{label}": max(tokens),
    }


def _prompt_tokens(packed: PackedContext, tokenizer: Tokenizer) -> int:
    """Tokens of every part as a prompt has them, with one separator each."""
    window = packed.window
    parts = [render(segment) for segment in packed.segments]
    parts += [window.path + "\n", window.prefix, window.suffix]
    return sum(len(tokenizer.encode(part)) + 1 for part in parts)


def _kept(index: Index, files: list[tuple[str, str]], tokenizer: Tokenizer, budget: int) -> float:
    """Share of the stable tier's tokens that stay where they are over successive edits."""
    path, text = max(files[:40], key=lambda item: item[1].count("import"))
    lines = text.split("\n")
    at = len(lines) * 2 // 3
    typed = [
        word for _, other in files[40:45] for word in other.split("\n")[60:120] if word.strip()
    ]
    kept = total = 0
    before: list[int] | None = None
    for number in range(EDITS + 1):
        lines[at:at] = typed[number : number + 1]
        at += 1
        document = Document(f"file:///{path}", number, "python", "\n".join(lines))
        index.overlay(path, document)
        packed = pack(index, document, path, at - 1, 9999, budget, tokenizer.count)
        now = [
            token
            for item in packed.segments
            if item.tier is Tier.STABLE
            for token in tokenizer.encode(render(item))
        ]
        if before is not None:
            total += len(before)
            same = zip(before, now, strict=False)
            kept += next((i for i, (a, b) in enumerate(same) if a != b), min(len(before), len(now)))
        before = now
    index.drop_overlay(path)
    return kept / total if total else 0.0


def _p95(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)]
