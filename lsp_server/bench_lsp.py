"""`qcoder bench lsp`: latency of inline completions through a real server process.

The server runs on a copy of our own sources. At seeded positions the rest of a line is removed and
typed again in a few characters; after each a completion of up to 24 tokens is asked for, without any
debounce and however unsure the model is. The first request in a file computes its whole prompt and is
reported by itself; the others are what a user feels while typing.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qcoder.lsp_server.demo import Spot, copy_sources, spots, wait_until_ready
from qcoder.lsp_server.rpc_client import Client
from qcoder.model.bench_report import Target, report

SEED = 7
FILES, KEYSTROKES, PINGS = 14, 6, 200
MAX_TOKENS = 24
COMPLETION = {
    "maxTokens": MAX_TOKENS,
    "maxTokensMultiline": MAX_TOKENS,
    "debounceMs": 0,
    "minConfidence": 0.05,
    "partial": False,
}


def run(model: str = "default") -> dict[str, Any]:
    """Measure and report; targets are for the default model on two cores."""
    options = {"completion": COMPLETION}
    if model != "default":
        options["model"] = {"name": model}  # type: ignore[dict-item]
    first, times, shown = [], [], 0
    with tempfile.TemporaryDirectory(prefix="qcoder-bench-") as folder:
        root = Path(folder).resolve() / "workspace"
        copy_sources(Path(__file__).resolve().parents[1], root)
        chosen = list(spots(root))
        random.Random(SEED).shuffle(chosen)
        chosen = chosen[:FILES]
        for spot in chosen:
            # The answer must not stand in the workspace that the copy model remembers.
            spot.path.write_text(spot.text, encoding="utf-8")
        with Client(root) as client:
            client.initialize(options)
            wait_until_ready(client)
            for spot in chosen:
                found, elapsed = type_at(client, spot)
                shown += found
                first += elapsed[:1]
                times += elapsed[1:]
            trips = [timed(lambda: client.request("qcoder/ping", {})) for _ in range(PINGS)]
    figures = {
        "completion_p50_ms": round(statistics.median(times), 1),
        "completion_p95_ms": round(statistics.quantiles(times, n=20)[18], 1),
        "first_in_file_p50_ms": round(statistics.median(first), 1),
        "completions": len(first) + len(times),
        "shown": shown,
        "round_trip_p50_ms": round(statistics.median(trips), 3),
    }
    targets = (
        Target("completion_p50_ms", "<=", 150),
        Target("completion_p95_ms", "<=", 400),
        Target("round_trip_p50_ms", "<=", 2),
    )
    return report(
        figures, targets, seed=SEED, notes=[f"model {model}, {MAX_TOKENS} tokens at most"]
    )


def timed(work: Any) -> float:
    """Milliseconds that `work` takes."""
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


def type_at(
    client: Client, spot: Spot, pause: Callable[[], object] = lambda: None
) -> tuple[int, list[float]]:
    """Type the rest of a line key by key; how many answers had text, and their milliseconds.

    `pause` is called before each key.
    """
    uri = client.open(spot.path, spot.text)
    shown, times = 0, []
    for number, key in enumerate(spot.truth[:KEYSTROKES]):
        pause()
        position = {"line": spot.line, "character": spot.column + number}
        change = {"range": {"start": position, "end": position}, "text": key}
        client.notify(
            "textDocument/didChange",
            {"textDocument": {"uri": uri, "version": number + 2}, "contentChanges": [change]},
        )
        after = {"line": spot.line, "character": spot.column + number + 1}
        began = time.perf_counter()
        answer = client.request(
            "textDocument/inlineCompletion",
            {"textDocument": {"uri": uri}, "position": after, "context": {"triggerKind": 2}},
        )
        times.append(1000 * (time.perf_counter() - began))
        shown += bool(answer and answer.get("items"))
    client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    return shown, times
