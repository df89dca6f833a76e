"""The `qcoder` command: arguments, exit codes and nothing else.

Exit codes: 0 done or clean, 1 findings, 2 wrong usage or input, 3 internal error, 4 time budget.
Results go to stdout, progress and errors to stderr. Each command lives in a `cli_*.py` module that
is imported when it runs, so that `qcoder index` never loads torch.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from qcoder import __version__

COMMANDS = {
    "complete": "qcoder.lsp_server.cli_complete:complete",
    "context": "qcoder.lsp_server.cli_complete:context",
    "index": "qcoder.lsp_server.cli_index:index",
    "doctor": "qcoder.lsp_server.cli_index:doctor",
    "model": "qcoder.lsp_server.cli_model:model",
    "review": "qcoder.lsp_server.cli_review:review",
    "docstring": "qcoder.lsp_server.cli_docstring:docstring",
    "explain": "qcoder.lsp_server.cli_assist:explain",
    "test": "qcoder.lsp_server.cli_assist:test",
    "train": "qcoder.lsp_server.cli_train:train",
    "daemon": "qcoder.lsp_server.cli_daemon:daemon",
    "stats": "qcoder.lsp_server.cli_stats:stats",
    "demo": "qcoder.lsp_server.demo:demo",
    "bench": "qcoder.lsp_server.cli_bench:bench",
}
"""Command -> function that takes the parsed arguments and returns the exit code."""


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(prog="qcoder", description="Local coding assistant.")
    parser.add_argument("--version", action="version", version=f"qcoder {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    complete = commands.add_parser("complete", help="complete code at a cursor position")
    _cursor(complete)
    complete.add_argument("--model", help="checkpoint folder or name (default: the shipped model)")
    complete.add_argument("--max-tokens", type=int)
    _format(complete)

    context = commands.add_parser("context", help="show what would be packed for a position")
    _cursor(context)
    context.add_argument("--budget", type=int, required=True, metavar="TOKENS")
    _format(context)

    index = commands.add_parser("index", help="index a workspace")
    index.add_argument("dir", nargs="?", type=Path, default=Path())
    _format(index)

    review = commands.add_parser("review", help="review files or changes")
    review.add_argument("paths", nargs="*", type=Path)
    what = review.add_mutually_exclusive_group()
    what.add_argument("--staged", action="store_true", help="what is staged for commit")
    what.add_argument("--diff-base", metavar="REV", help="what changed since REV")
    what.add_argument("--all", action="store_true", help="every file of the workspace")
    review.add_argument(
        "--format", choices=("text", "json", "sarif", "github", "rdjson"), default="text"
    )
    review.add_argument("--fail-on", choices=("error", "warning", "never"), default="warning")
    review.add_argument("--baseline", type=Path, help="JSON findings that are known already")
    review.add_argument("--max-seconds", type=float, default=0.0, metavar="S")
    review.add_argument("--hints", action="store_true", help="rules that only hint, too")
    review.add_argument("--model", help='checkpoint, or "none" for structural rules alone')

    docstring = commands.add_parser("docstring", help="write, mend and check docstrings")
    docstring.add_argument("file", type=Path, nargs="+", help="files, or folders with all below")
    docstring.add_argument("--symbol", help="one definition, by name or dotted path")
    docstring.add_argument("--style", default="auto")
    docstring.add_argument("--model", help='checkpoint, or "none" for templates alone')
    docstring.add_argument(
        "--update", action="store_true", help="also bring docstrings that are there in line"
    )
    mode = docstring.add_mutually_exclusive_group()
    mode.add_argument("--diff", action="store_true")
    mode.add_argument("--write", action="store_true")
    mode.add_argument("--check", action="store_true")
    _format(docstring)

    explain = commands.add_parser("explain", help="say what code does (Instruct models)")
    test = commands.add_parser("test", help="write a unit test (Instruct models)")
    for one in (explain, test):
        one.add_argument("file", type=Path)
        one.add_argument("--symbol", required=one is test, help="a name or dotted path")
        one.add_argument("--model", help="checkpoint folder or name")
        _format(one)
    test.add_argument("--write", action="store_true", help="as a new file, beside the other tests")
    test.add_argument("--run", action="store_true", help="run it: this runs your code")

    _model(commands.add_parser("model", help="list, check and import models"))

    train = commands.add_parser("train", help="train the default model on your own code, here")
    train.add_argument("--workspace", type=Path, required=True, metavar="DIR")
    train.add_argument(
        "--minutes", type=float, default=10.0, metavar="N", help="in all; default 10"
    )
    train.add_argument("--model", default="default", help="what to start from")
    train.add_argument("--remove", action="store_true", help="delete what was trained on DIR")
    _format(train)

    bench = commands.add_parser("bench", help="measure this machine")
    bench.add_argument("what", choices=("decode", "prefill", "reuse", "index", "context", "lsp"))
    bench.add_argument("--model", default="default")
    _format(bench)

    doctor = commands.add_parser("doctor", help="check the installation")
    doctor.add_argument("--why", type=Path, metavar="FILE", help="why a file is or is not read")
    _format(doctor)

    daemon = commands.add_parser("daemon", help="run one model for all editors and commands")
    daemon.add_argument("--socket", type=Path, metavar="PATH", help="where; else the user's own")
    daemon.add_argument("--idle-minutes", type=float, default=30.0, metavar="N")
    what = daemon.add_mutually_exclusive_group()
    what.add_argument("--status", action="store_true", help="what the running one has loaded")
    what.add_argument("--stop", action="store_true", help="end the running one")
    what.add_argument("--metrics", action="store_true", help="its counters, as Prometheus text")
    _format(daemon)

    stats = commands.add_parser("stats", help="how completions serve you; stays on this machine")
    stats.add_argument("--days", type=int, default=30, metavar="N", help="latest days; default 30")
    stats.add_argument("--reset", action="store_true", help="delete what was counted")
    _format(stats)

    demo = commands.add_parser("demo", help="drive a real server through completion and review")
    demo.add_argument("--workspace", type=Path)
    return parser


def _model(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    _format(actions.add_parser("list", help="which models there are"))
    for action, what in (("info", "what a model is"), ("check", "whether its files are whole")):
        one = actions.add_parser(action, help=what)
        one.add_argument("name", nargs="?", default="default", help="a name or a folder")
        _format(one)
    take = actions.add_parser("import", help="quantize a checkpoint into your folder of models")
    take.add_argument("source", metavar="SRC", help="a Hugging Face folder or a GGUF file")
    take.add_argument("--name", required=True, help="what to call it")
    take.add_argument(
        "--quantize",
        choices=("int4", "int8", "fp8", "none"),
        help="default int4, none for what has four bits already",
    )
    take.add_argument(
        "--group", type=int, choices=(32, 128), default=32, help="int4 columns a scale; default 32"
    )
    take.add_argument(
        "--head",
        choices=("int4x2", "int8", "int4", "none"),
        default="int4x2",
        help="the output matrix",
    )
    _format(take)
    give = actions.add_parser("export", help="write a model for other programs")
    give.add_argument("name", help="a name or a folder")
    give.add_argument("target", metavar="DEST", help="a new folder, or a new file ending in .gguf")


def _cursor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path)
    parser.add_argument("--line", type=int, required=True, help="1-based")
    parser.add_argument("--column", type=int, required=True, help="1-based")
    parser.add_argument("--workspace", type=Path, metavar="DIR")


def _format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("text", "json"), default="text")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (argparse exits with 2 by itself)."""
    # After --version and --help.
    from qcoder.lsp_server.headless import InputError
    from qcoder.lsp_server.pauses import search_seldom
    from qcoder.model.errors import ModelError

    args = build_parser().parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(message)s"
    )
    search_seldom()
    module, _, function = COMMANDS[args.command].partition(":")
    try:
        code: int = getattr(importlib.import_module(module), function)(args)
        return code
    except (InputError, ModelError) as error:
        print(f"qcoder {args.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader (`head`) has left: leave quietly, without a second error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # the last boundary before the user
        logging.getLogger(__name__).debug("internal error", exc_info=True)
        print(
            f"qcoder {args.command}: internal error: {type(error).__name__}: {error}; "
            "`qcoder doctor` checks the installation",
            file=sys.stderr,
        )
        return 3


if __name__ == "__main__":
    sys.exit(main())
