"""`qcoder daemon`: run the shared engine, ask what it does, end it."""

from __future__ import annotations

import argparse
import json
import logging
import os
from pathlib import Path

from qcoder.lsp_server.daemon import Daemon
from qcoder.lsp_server.daemon_socket import connect, listening, socket_path
from qcoder.lsp_server.engines import load_here
from qcoder.lsp_server.headless import InputError
from qcoder.model.shared import told


def daemon(args: argparse.Namespace) -> int:
    """Serve until idle, or talk to the one that serves."""
    path: Path = args.socket or socket_path()
    if args.status or args.stop:
        answer = ask(path, "stop" if args.stop else "status")
        answer = {
            "running": answer is not None and not args.stop,
            "socket": str(path),
            **(answer or {}),
        }
        print(json.dumps(answer) if args.format == "json" else sentence(answer, args.stop))
        return 0
    if args.metrics:
        told_by_it = ask(path, "metrics")
        if told_by_it is None:
            raise InputError(f"no daemon runs at {path}; set model.shared or run `qcoder daemon`")
        print(told_by_it["text"], end="")
        return 0
    if args.idle_minutes <= 0:
        raise InputError("--idle-minutes must be more than 0")
    logging.getLogger("qcoder").setLevel(logging.INFO)
    with listening(path) as listener:
        Daemon(listener, load_here, 60 * args.idle_minutes).serve()
    logging.shutdown()
    # The engine's thread may be inside a kernel, where the interpreter's own end would abort.
    os._exit(0)


def ask(path: Path, op: str) -> dict[str, object] | None:
    """What the running daemon answers; None when none runs."""
    try:
        connection = connect(path)
    except OSError:
        return None
    with connection:
        return told(connection, op)


def sentence(answer: dict[str, object], stopped: bool) -> str:
    """The same for people."""
    if stopped:
        return f"stopped, if one ran at {answer['socket']}"
    if not answer["running"]:
        return f"no daemon runs at {answer['socket']}"
    models = answer["models"]
    loaded = ", ".join(map(str, models)) if isinstance(models, list) and models else "no model"
    return f"{loaded} for {answer['clients']} clients, idle for {answer['idle_s']} s"
