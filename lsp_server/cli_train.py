"""`qcoder train`: training on the user's own workspace, in a process of its own.

The server's folder never imports the training; `python -m qcoder.training.adapt` runs with the same
interpreter, prints the result and makes or leaves the model. This process only passes signals on.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from qcoder.lsp_server.cli_workspace import settings_of
from qcoder.lsp_server.headless import InputError
from qcoder.model.adapted import adapted_name, remove

INTERRUPTED = 130


def train(args: argparse.Namespace) -> int:
    """Train on a workspace, or remove what was trained on it."""
    root: Path = args.workspace.expanduser().resolve()
    if args.remove:
        return removed(root, args.model, args.format)
    if not root.is_dir():
        raise InputError(f"{args.workspace}: no such folder")
    if not args.minutes > 0:
        raise InputError(f"--minutes {args.minutes:g}: must be more than 0")
    command = [
        *(sys.executable, "-P", "-m", "qcoder.training.adapt", "--workspace", str(root)),
        *("--minutes", str(args.minutes), "--model", args.model, "--format", args.format),
        *(f"--exclude={pattern}" for pattern in settings_of(root).privacy.exclude),
    ]
    return run(command)


def removed(root: Path, base: str, form: str) -> int:
    """Delete the model of a workspace, which need not exist any more, and say so."""
    name = adapted_name(root, base)
    known = remove(root, base)
    if form == "json":
        print(json.dumps({"name": name, "workspace": str(root), "removed": known}))
    else:
        print(f"{name}: {'removed' if known else 'there was none'}")
    return 0


def run(command: list[str]) -> int:
    """Run a child to its end and return its exit code; Ctrl-C and SIGTERM end it cleanly.

    Until it has its own handlers the child ignores SIGINT, which a terminal sends to both.
    """
    # A barrier of OpenMP must not burn the core that another program waits for.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    children: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, frame: object) -> None:
        for child in children:
            child.terminate()

    previous = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, pass_on),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
    }
    try:
        children.append(subprocess.Popen(command, env=environment))
        signal.signal(signal.SIGINT, pass_on)
        code = children[0].wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if code == -signal.SIGTERM:  # before it had handlers of its own
        print("qcoder train: stopped; nothing was installed", file=sys.stderr)
        return INTERRUPTED
    return code if code >= 0 else 128 - code
