"""The command behind `qcoder train`: trains the default model further on one workspace.

    python -P -m qcoder.training.adapt --workspace DIR --minutes 10

`qcoder train` runs this in a process of its own. Progress goes to stderr, the result to stdout. Nothing
leaves the machine; SIGINT and SIGTERM end a run without a trace.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from qcoder.model.errors import ModelError
from qcoder.model.registry import DEFAULT_NAME
from qcoder.training.adaptation import Outcome, Plan, WorkspaceError, adapt
from qcoder.training.tuning import Progress

NICENESS = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; the exit code is that of `qcoder train`."""
    args = parse(arguments)
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(message)s"
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt_once)
    os.nice(max(0, NICENESS - os.nice(0)))
    plan = Plan(args.workspace.resolve(), args.minutes, args.model, tuple(args.exclude), args.seed)
    try:
        outcome = adapt(plan, ProgressLine(), shield=ignore_signals)
    except (WorkspaceError, ModelError) as error:
        print(f"qcoder train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nqcoder train: stopped; nothing was installed", file=sys.stderr)
        return 130
    except Exception as error:  # the last boundary before the user
        logging.getLogger(__name__).debug("internal error", exc_info=True)
        print(
            f"qcoder train: {type(error).__name__}: {error}; nothing was installed", file=sys.stderr
        )
        return 3
    print(json.dumps(outcome.as_json()) if args.format == "json" else as_text(outcome))
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--model", default=DEFAULT_NAME)
    parser.add_argument("--exclude", action="append", default=[], metavar="PATTERN")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    return parser.parse_args(arguments)


class ProgressLine:
    """Phases and a bar on stderr; where that is no terminal, a line every tenth."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._tenths = -1

    def phase(self, text: str) -> None:
        """Begin a part of the run."""
        print(f"{text} ...", file=sys.stderr, flush=True)

    def progress(self, now: Progress) -> None:
        """Show how far training is."""
        line = (
            f"{now.share:4.0%}  {now.tokens / 1000:.0f}k tokens  {now.tokens_per_second:.0f} tokens/s  "
            f"loss {now.loss_nats:.3f}  held-out bits per byte {now.bits_per_byte:.4f}"
        )
        if self._terminal:
            filled = int(20 * now.share)
            end = "\n" if now.share >= 1 else ""
            print(f"\r[{'#' * filled:20}] {line}", end=end, file=sys.stderr, flush=True)
        elif int(10 * now.share) > self._tenths:
            self._tenths = int(10 * now.share)
            print(line, file=sys.stderr, flush=True)


def as_text(outcome: Outcome) -> str:
    """The outcome as a small table."""
    facts = outcome.facts
    rows = [f"{'':24}{'before':>10}{'after':>10}"]
    for source in ("network", "mixture"):
        for name, before in facts["before"][source].items():
            label = f"{source} {name.replace('_', ' ')}"
            rows.append(f"{label:34}{before:>8.4f}{facts['after'][source][name]:>10.4f}")
    head = (
        f"held out: {facts['files']['reporting']} files, {facts['reported_lines']} lines; trained on "
        f"{facts['files']['trained']} files, {facts['tokens_seen']} tokens in {facts['seconds']:.0f} s"
    )
    if outcome.installed:
        end = (
            f"installed as {outcome.name}; the server uses it for {outcome.workspace}\n"
            f"{outcome.path}: keep it on this machine, it can repeat your code"
        )
    else:
        end = f"not installed: {outcome.reason}"
    return "\n".join([head, *rows, end])


def interrupt_once(number: int, frame: object) -> None:
    """End the run; whatever comes after this does not disturb the cleaning up."""
    ignore_signals()
    raise KeyboardInterrupt


def ignore_signals() -> None:
    """Let nothing interrupt what follows: cleaning up, or the instant that installing takes."""
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
