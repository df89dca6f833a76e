"""Decoding with drafts beside plain decoding: the same tokens, how much faster.

    python -P benchmarks/speculation.py [--prompts 500] [--root DIR] [--model default] [--format json]

Three kinds of prompts are made of source files. `re-edit`: a function stands in the prompt and is written
again behind it, as when code is moved or a suggestion was undone. `boilerplate`: the prompt ends where
a line begins whose first half stood there before. `random`: random tokens, which drafts cannot help. Each is
decoded with and without drafts, greedily, one after the other; compared are the tokens, and the
median over the prompts of a round of the ratio of their times.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from pathlib import Path

from qcoder.model.bench_report import Target, report
from qcoder.model.local import LocalEngine
from qcoder.model.native_model import NativeModel
from qcoder.model.request import GenerationRequest, Prompt

DECODED = 40
KINDS = ("re-edit", "boilerplate", "random")


def sources(root: Path) -> list[list[str]]:
    """Lines of the source files of a folder."""
    files = sorted(p for p in root.rglob("*.py") if "site-packages" not in p.parts)
    texts = [p.read_text(encoding="utf-8", errors="replace") for p in files]
    return [lines for t in texts if len(lines := t.splitlines(keepends=True)) > 60]


def prompt(kind: str, files: list[list[str]], engine: LocalEngine, rng: random.Random) -> list[int]:
    """Token ids of one prompt."""
    if kind == "random":
        return [rng.randrange(300, engine.tokenizer.vocab_size - 64) for _ in range(300)]
    lines = rng.choice(files)
    start = rng.randrange(len(lines) - 50)
    part = lines[start : start + 40]
    text = "".join(part)
    if kind == "re-edit":
        text += "\n\n" + "".join(part[:6])
    else:
        starts: dict[str, int] = {}
        for number, line in enumerate(lines):
            head = line[: len(line) // 2]
            if len(head.strip()) > 6 and head in starts and number > 20:
                text = "".join(lines[max(0, number - 60) : number]) + head
                break
            starts.setdefault(head, number)
    return engine.tokenizer.encode(text)[-500:]


def decode(engine: LocalEngine, ids: list[int]) -> tuple[list[int], float]:
    """Greedy tokens and the engine's milliseconds of decoding."""
    outs = list(engine.generate(GenerationRequest(Prompt(tuple(ids)), max_tokens=DECODED)))
    last = engine.stats().last
    return [out.id for out in outs], last.decode_ms / max(1, last.generated_tokens)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--model", default="default")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument("--format", choices=("text", "json"), default="text")
    args = parser.parse_args()
    engine = LocalEngine.load(args.model)
    model = engine._model
    if not isinstance(model, NativeModel):
        sys.exit("the compiled kernels are not installed, and only they check drafts")
    files, rng = sources(args.root), random.Random(3)
    figures: dict[str, float] = {}
    equal = total = 0
    for kind in KINDS:
        ratios = []
        for number in range(args.prompts // len(KINDS) + 1):
            ids = prompt(kind, files, engine, rng)
            decode(engine, ids)  # the prompt is computed, and the first pass has warmed up
            found = {}
            for drafts in (True, False) if number % 2 else (False, True):
                model.drafts = drafts
                found[drafts] = decode(engine, ids)
            model.drafts = True
            equal += found[True][0] == found[False][0]
            total += 1
            ratios.append(found[False][1] / found[True][1])
        figures[f"{kind}_speedup"] = statistics.median(ratios)
        figures[f"{kind}_speedup_mean"] = statistics.mean(ratios)
        print(f"{kind} {figures[f'{kind}_speedup']:.2f}", file=sys.stderr)
    figures["identical_outputs"] = equal / total
    figures["prompts"] = total
    experience = engine._experience
    figures["accepted_share"] = experience.accepted / max(1, experience.drafted)
    figures = {name: round(value, 4) for name, value in figures.items()}
    targets = [
        Target("identical_outputs", ">=", 1.0),
        Target("re-edit_speedup", ">=", 1.3),
        Target("boilerplate_speedup", ">=", 1.3),
        Target("random_speedup", ">=", 0.97),
    ]
    notes = [f"{DECODED} tokens a prompt, greedy, behind at most 500 tokens"]
    result = report(figures, targets, notes=notes)
    if args.format == "json":
        print(json.dumps(result, indent=1))
        return
    for name, value in figures.items():
        print(f"{name:36} {value}")


if __name__ == "__main__":
    main()
