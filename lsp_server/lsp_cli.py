"""The `qcoder-lsp` command: transport, logging, and nothing of the model until a client is there."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO, cast

from qcoder import __version__
from qcoder.lsp_server.framing import FrameReader
from qcoder.lsp_server.pauses import search_seldom
from qcoder.model.processes import is_running

if TYPE_CHECKING:
    from qcoder.lsp_server.server import QcoderServer

SWITCH_S = 0.0005
CLIENT_POLL_S = 1.0
LEVELS = ("debug", "info", "warning", "error")


def build_parser() -> argparse.ArgumentParser:
    """Arguments of the server, in the spelling that editors send."""
    parser = argparse.ArgumentParser(prog="qcoder-lsp", description="qcoder's language server.")
    transport = parser.add_mutually_exclusive_group()
    transport.add_argument("--stdio", action="store_true", help="the default")
    transport.add_argument("--tcp", metavar="HOST:PORT", help="listen there for one client")
    transport.add_argument("--pipe", metavar="PATH", help="connect to a Unix socket")
    transport.add_argument("--socket", type=int, metavar="PORT", help="connect to a local port")
    parser.add_argument("--log-file", metavar="F")
    parser.add_argument("--log-level", choices=LEVELS, default="warning")
    parser.add_argument("--config", metavar="F", help="settings file in place of the user's own")
    parser.add_argument("--clientProcessId", type=int, dest="client", metavar="N")
    parser.add_argument("--version", action="version", version=f"qcoder-lsp {__version__}")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve one client until it leaves."""
    args = build_parser().parse_args(arguments)
    set_up_logging(args.log_file, args.log_level)
    if args.client:
        follow_client(args.client)
    from qcoder.lsp_server.requests import make_server  # after --version: costs pygls

    # The engine's thread leaves Python at each kernel and must soon come in again.
    sys.setswitchinterval(SWITCH_S)
    search_seldom()
    server = make_server(args.config)
    try:
        serve(server, args)
    except SystemExit:
        pass  # how pygls ends on a socket
    except (OSError, ValueError) as error:
        sys.stderr.write(f"qcoder-lsp: cannot serve: {error}\n")
        return 2
    finally:
        server.session.stop()
        server.keep_usage()
    logging.shutdown()
    # The engine's thread may be inside a kernel, where the interpreter's own end would abort.
    os._exit(0 if server.protocol.is_shut_down else 1)


def serve(server: QcoderServer, args: argparse.Namespace) -> None:
    """Talk to one client over the chosen transport until either side ends it."""
    if args.tcp:
        host, _, port = args.tcp.rpartition(":")
        server.start_tcp(host or "127.0.0.1", int(port))
    elif args.pipe or args.socket:
        with connected(args.pipe, args.socket) as peer:
            reader = FrameReader(peer.makefile("rb"))
            server.start_io(cast(BinaryIO, reader), peer.makefile("wb"))
    else:
        # The protocol keeps the real stdout; stray prints go to stderr.
        protocol_out = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        server.start_io(cast(BinaryIO, FrameReader(sys.stdin.buffer)), protocol_out)


def set_up_logging(log_file: str | None, level: str) -> None:
    """Log to a file or stderr; pygls stays quiet, because it logs whole messages."""
    form = "%(asctime)s %(levelname)s %(name)s %(message)s"
    chosen = level.upper()
    try:
        logging.basicConfig(filename=log_file, level=chosen, format=form)
    except OSError as error:
        logging.basicConfig(level=chosen, format=form)
        logging.getLogger(__name__).warning("log file %s: %s; logging to stderr", log_file, error)
    logging.getLogger("pygls").setLevel(logging.CRITICAL)


def connected(path: str | None, port: int | None) -> socket.socket:
    """A socket to the client that waits at a Unix socket or a local port."""
    if path is not None:
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(path)
        return peer
    return socket.create_connection(("127.0.0.1", port or 0))


def follow_client(process_id: int) -> None:
    """End this process when the client's is gone.

    A client in another container has an id that means nothing here: one that is not there at the
    beginning is not followed.
    """
    if is_running(process_id):
        threading.Thread(target=_await_end, args=(process_id,), daemon=True).start()


def _await_end(process_id: int) -> None:
    while is_running(process_id):
        time.sleep(CLIENT_POLL_S)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
