"""Real files typed key by key through a real server: how much of it needs the engine?

    python benchmarks/replay.py --keys 8800 --format json
    python benchmarks/replay.py --keys 0 --format json       only what the server itself takes; quick

Spots of our own sources are emptied (a few lines each) and typed again, with gaps between keys and
pauses at line ends drawn from a seed. After every key an automatic completion is asked for, as
editors do, without waiting for the answer to the one before. Nobody accepts anything, so all keys
count; what an oracle would have accepted is counted beside. Every text that is shown is applied and
checked: no syntax error that was not there, no line that follows anyway, no special token (but in files
that are about such tokens).
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qcoder.context.parse import error_count, parse
from qcoder.lsp_server.bench_lsp import copy_sources
from qcoder.lsp_server.demo import wait_until_ready
from qcoder.lsp_server.rpc_client import Client, ServerGone
from qcoder.model.bench_report import Target, report

SEED = 19
LINES_A_SPOT = 3
GAP_S, PAUSE_S = 0.16, 0.7
"""Median time between two keys (some 75 words a minute), and at the end of a line."""

ACCEPTED_CHARACTERS = 4
ANSWER_S = 60.0
OVERHEAD_SAMPLES = 100
OPENING_KEYS = 5
"""While a file is being opened it is also being read, which is no part of typing."""

LARGE_LINES = 5000
OVERHEAD_LINE = "    if not value: result = [value for entry in "


@dataclass(frozen=True, slots=True)
class Spot:
    """A hole in a file, and the text to be typed into it."""

    path: Path
    head: str
    typed: str
    tail: str


@dataclass(slots=True)
class Tally:
    """What came of the keys; the lists are in milliseconds."""

    keys: int = 0
    answered_ms: list[float] = field(default_factory=list)
    shown: int = 0
    fresh: int = 0
    parse_regressions: int = 0
    repeated_suffixes: int = 0
    special_tokens: int = 0
    saved: int = 0


TYPING = (
    Target("keys_without_generation_share", ">=", 0.60),
    Target("decodes_a_shown_suggestion", "<=", 1.2),
    Target("parse_regressions", "<=", 0),
    Target("repeated_suffixes", "<=", 0),
    Target("special_tokens", "<=", 0),
    Target("shown", ">=", 2000),
)
TIMES = (Target("cached_answer_p95_ms", "<=", 5), Target("overhead_p95_ms", "<=", 10))


def main() -> None:
    """Type and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument(
        "--seed", type=int, default=SEED, help="which spots, and how they are typed"
    )
    parser.add_argument("--model", default="default")
    parser.add_argument("--min-confidence", type=float, help="show more than the default does")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    args = parser.parse_args()
    options: dict[str, Any] = {"model": {"name": args.model}}
    if args.min_confidence is not None:
        options["completion"] = {"minConfidence": args.min_confidence}
    figures = run(args.keys, options, args.seed)
    targets = (*(TYPING if args.keys else ()), *TIMES)
    notes = [f"{figures['keys']:.0f} keys, median gap {GAP_S} s; nothing is accepted; {options}"]
    result = report(figures, targets, seed=args.seed, notes=notes)
    if args.format == "json":
        print(json.dumps(result))
    else:
        print("\n".join(f"{name:32} {value}" for name, value in figures.items()))


def run(keys: int, options: dict[str, Any], seed: int) -> dict[str, float]:
    """Type so many keys into the workspace of a server with these options; the figures."""
    rng, tally = random.Random(seed), Tally()
    with tempfile.TemporaryDirectory(prefix="qcoder-replay-") as folder:
        root = Path(folder).resolve() / "workspace"
        copy_sources(Path(__file__).resolve().parents[1], root)
        chosen = spots(root, rng)
        with Client(root) as client:
            client.initialize(options)
            wait_until_ready(client)
            for spot in chosen:
                if tally.keys >= keys:
                    break
                type_into(client, spot, rng, tally, keys)
                print(f"\r{tally.keys}/{keys} keys, {tally.shown} shown", end="", file=sys.stderr)
            counts = client.request("qcoder/counts", None)
            cached = cached_answers(client, root)
            overhead = overheads(client, root, rng)
    print(file=sys.stderr)
    return figures_of(tally, counts, cached, overhead)


def figures_of(
    tally: Tally, counts: dict[str, int], cached: list[float], overhead: list[float]
) -> dict[str, float]:
    """The published numbers.

    A generation that its first token ended, which the prompt alone decides, decoded nothing. What was
    computed ahead counts as decoded. Shown is every answer with a text; anew, those that lead to another
    document than the one before.
    """
    work = counts["generations"]
    decoded = counts["decoded"] + counts["looked_ahead"]
    answered = tally.answered_ms or [0.0, 0.0]
    return {
        "keys": tally.keys,
        "keys_without_generation_share": round(1 - work / max(tally.keys, 1), 3),
        "keys_from_cache_share": round(counts["cached"] / max(tally.keys, 1), 3),
        "keys_joined_share": round(counts["joined"] / max(tally.keys, 1), 3),
        "prefills_a_key": round(counts["prefills"] / max(tally.keys, 1), 3),
        "looked_ahead_a_key": round(counts["looked_ahead"] / max(tally.keys, 1), 3),
        "shown": tally.shown,
        "shown_anew": tally.fresh,
        "generations_a_suggestion_shown_anew": round(work / max(tally.fresh, 1), 2),
        "decodes_a_shown_suggestion": round(decoded / max(tally.shown, 1), 2),
        "parse_regressions": tally.parse_regressions,
        "repeated_suffixes": tally.repeated_suffixes,
        "special_tokens": tally.special_tokens,
        "keystrokes_saved_share": round(tally.saved / max(tally.keys, 1), 3),
        "answer_p50_ms": round(statistics.median(answered), 1),
        "answer_p95_ms": round(statistics.quantiles(answered, n=20)[18], 1),
        "cached_answer_p50_ms": round(statistics.median(cached), 2),
        "cached_answer_p95_ms": round(statistics.quantiles(cached, n=20)[18], 2),
        "overhead_p50_ms": round(statistics.median(overhead), 2),
        "overhead_p95_ms": round(statistics.quantiles(overhead, n=20)[18], 2),
    }


def spots(root: Path, rng: random.Random) -> list[Spot]:
    """One hole a file, of some code lines in its second half, in random order."""
    found = []
    for path in sorted(root.rglob("*.py")):
        lines = path.read_text(encoding="utf-8").split("\n")
        starts = [
            number
            for number in range(len(lines) // 2, len(lines) - LINES_A_SPOT)
            if all(is_code(line) for line in lines[number : number + LINES_A_SPOT])
        ]
        if starts:
            at = rng.choice(starts)
            first = lines[at]
            indent = first[: len(first) - len(first.lstrip())]
            head = "\n".join(lines[:at]) + "\n" + indent
            typed = "\n".join(lines[at : at + LINES_A_SPOT])[len(indent) :]
            spot = Spot(path, head, typed, "\n" + "\n".join(lines[at + LINES_A_SPOT :]))
            # The answer must not stand in the workspace that the copy model remembers.
            path.write_text(spot.head + spot.tail, encoding="utf-8")
            found.append(spot)
    rng.shuffle(found)
    return found


def is_code(line: str) -> bool:
    """Whether a line is worth typing: no comment, no text, not blank."""
    return len(line.strip()) > 8 and '"""' not in line and "#" not in line


def type_into(client: Client, spot: Spot, rng: random.Random, tally: Tally, limit: int) -> None:
    """Type a spot's text and judge what is shown on the way."""
    uri = client.open(spot.path, spot.head + spot.tail)
    judge = Judge(spot, tally)
    waiting: list[threading.Thread] = []
    for number, key in keys_of(spot.typed):
        if tally.keys >= limit:
            break
        tally.keys += 1
        change(client, uri, spot.head + spot.typed[:number], key, tally.keys)
        text = spot.head + spot.typed[: number + len(key)]
        asked = threading.Thread(target=judge.ask, args=(client, uri, text))
        asked.start()
        waiting.append(asked)
        median = PAUSE_S if key.startswith("\n") else GAP_S
        time.sleep(min(3.0, median * rng.lognormvariate(0, 0.5)))
    for asked in waiting:
        asked.join()
    client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})


def keys_of(text: str) -> Iterator[tuple[int, str]]:
    """Keys with their places; a new line brings its indent along, as editors do."""
    at = 0
    while at < len(text):
        rest = text[at:]
        blanks = len(rest) - len(rest.lstrip(" \n")) if rest[0] == "\n" else 1
        yield at, rest[:blanks]
        at += blanks


def position(text: str) -> dict[str, int]:
    """Where a text ends, in the protocol's units."""
    last = text[text.rfind("\n") + 1 :]
    return {"line": text.count("\n"), "character": len(last.encode("utf-16-le")) // 2}


def change(client: Client, uri: str, before: str, key: str, version: int) -> None:
    """Insert a key behind a text."""
    at = position(before)
    edit = {"range": {"start": at, "end": at}, "text": key}
    document = {"uri": uri, "version": version + 1}
    client.notify("textDocument/didChange", {"textDocument": document, "contentChanges": [edit]})


def ask(client: Client, uri: str, text: str) -> tuple[dict[str, Any] | None, float]:
    """The shown item at the end of a text, and the milliseconds until it was there."""
    began = time.perf_counter()
    answer = client.request(
        "textDocument/inlineCompletion",
        {"textDocument": {"uri": uri}, "position": position(text), "context": {"triggerKind": 2}},
        timeout_s=ANSWER_S,
    )
    took = 1000 * (time.perf_counter() - began)
    items = answer["items"] if answer else []
    return (items[0] if items else None), took


class Judge:
    """Looks at every suggestion of one spot."""

    def __init__(self, spot: Spot, tally: Tally) -> None:
        self._spot, self._tally = spot, tally
        self._leads_to: set[str] = set()
        self._accepted_up_to = 0
        self._lock = threading.Lock()

    def ask(self, client: Client, uri: str, text: str) -> None:
        """Ask at the end of a text and count what comes."""
        try:
            item, took = ask(client, uri, text)
        except ServerGone as error:
            print(f"\n{error}", file=sys.stderr)
            return
        with self._lock:
            self._tally.answered_ms.append(took)
            if item is not None:
                self._count(item, text)

    def _count(self, item: dict[str, Any], text: str) -> None:
        spot, tally = self._spot, self._tally
        shown, where = item["insertText"], item["range"]
        covered = where["end"]["character"] - where["start"]["character"]
        before, after = text + spot.tail, text + shown + spot.tail[covered:]
        tally.shown += 1
        if after not in self._leads_to:
            self._leads_to.add(after)
            tally.fresh += 1
        tally.parse_regressions += errors_of(after) > errors_of(before)
        following = [line.strip() for line in spot.tail.split("\n") if line.strip()][:1]
        last = shown.split("\n")[-1].strip()
        tally.repeated_suffixes += "\n" in shown and [last] == following
        tally.special_tokens += "<|" in shown and "<|" not in spot.head + spot.typed + spot.tail
        at = len(text) - len(spot.head)
        wanted = at >= self._accepted_up_to and len(shown) >= ACCEPTED_CHARACTERS
        if wanted and spot.typed[at:].startswith(shown.rstrip()):
            tally.saved += len(shown)
            self._accepted_up_to = at + len(shown)


def errors_of(text: str) -> int:
    """Syntax errors of a Python text."""
    tree = parse(text, "python")
    return error_count(tree) if tree is not None else 0


def cached_answers(client: Client, root: Path) -> list[float]:
    """Milliseconds of asking again where the answer is known already."""
    text = "value = "
    uri = client.open(root / "replay_cached.py", text)
    ask(client, uri, text)
    return [ask(client, uri, text)[1] for _ in range(OVERHEAD_SAMPLES)]


def overheads(client: Client, root: Path, rng: random.Random) -> list[float]:
    """Milliseconds of requests in a file of 5,000 lines without waiting, prefill and decoding.

    What remains is the server's own: places, packing, prompt, filters, syntax. Words are typed into
    function bodies, a request after each key, as fast as answers come.
    """
    sources = "\n".join(p.read_text(encoding="utf-8") for p in sorted(root.rglob("*.py")))
    lines = sources.split("\n")[:LARGE_LINES]
    at = rng.choice([n for n in range(1000, 4000) if lines[n].startswith("    return ")])
    head, tail = "\n".join(lines[:at]) + "\n", "\n" + "\n".join(lines[at:])
    uri = client.open(root / "replay_large.py", head + tail)
    typed, found = "", []
    for number in range(OPENING_KEYS + OVERHEAD_SAMPLES):
        key = OVERHEAD_LINE[number % len(OVERHEAD_LINE)]
        change(client, uri, head + typed, key, number + 1)
        typed += key
        ask(client, uri, head + typed)
        told = client.request("qcoder/explainLast", {"uri": uri})
        times = told["timings_ms"]
        if number >= OPENING_KEYS and told["origin"] == "new generation" and times:
            model = times["prefill"] + times["decode"]
            found.append(told["answer_ms"] - told["waited_ms"] - model)
    return found


if __name__ == "__main__":
    main()
