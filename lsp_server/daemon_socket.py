"""Where the daemon of this user and this installation is reached: a Unix socket, a pipe on Windows.

The socket lies in a folder that only the user may enter. A lock beside it, which the system takes back
from a process that dies, says whether a daemon is there, so a socket that a dead one left is replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path

from qcoder import __version__
from qcoder.model.errors import ModelError

START_S = 30.0
POLL_S = 0.05
MAX_PATH_BYTES = 100
"""What a socket's name may have on every system."""

WINDOWS = os.name == "nt"


def socket_path() -> Path:
    """The socket of this installation: another version or place has another one."""
    import platformdirs  # only where a daemon is wanted

    install = f"{Path(__file__).resolve().parents[1]} {__version__}"
    name = f"engine-{hashlib.sha256(install.encode()).hexdigest()[:12]}"
    if WINDOWS:
        return Path(rf"\\.\pipe\qcoder-{os.environ.get('USERNAME', 'user')}-{name}")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime) if runtime else platformdirs.user_cache_path(appauthor=False)
    return folder / "qcoder" / "run" / f"{name}.sock"


def connect(path: Path) -> Connection:
    """A connection to the daemon that listens there; raises OSError when none does."""
    return Client(str(path), family="AF_PIPE" if WINDOWS else "AF_UNIX")


def connect_or_start(path: Path) -> Connection:
    """A connection to a daemon, which is started if need be; raises `ModelError`."""
    with contextlib.suppress(OSError):
        return connect(path)
    command = [sys.executable, "-P", "-m", "qcoder.lsp_server.cli", "daemon", "--socket", str(path)]
    quiet = subprocess.DEVNULL
    # A session of its own: it outlives the editor that happened to need it first.
    child = subprocess.Popen(
        command,
        stdin=quiet,
        stdout=quiet,
        stderr=quiet,
        cwd=path.anchor or None,
        start_new_session=True,
    )
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            return connect(path)
        if child.poll() not in (None, 0):
            break
        time.sleep(POLL_S)
    raise ModelError(f"no shared engine at {path}: `qcoder daemon --socket {path}` says why")


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Hold the lock of a socket for as long as the process lives; raises BlockingIOError."""
    if WINDOWS:  # there the first to make a pipe owns its name
        yield
        return
    import fcntl

    with open(path.with_suffix(".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


@contextlib.contextmanager
def listening(path: Path) -> Iterator[Listener]:
    """A listener there, for the user alone; raises `ModelError` with what is in the way."""
    if not WINDOWS and len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise ModelError(f"{path}: too long for a socket; set XDG_RUNTIME_DIR or --socket")
    opened = contextlib.ExitStack()
    try:
        if not WINDOWS:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = path.parent.stat()
            if status.st_uid != os.getuid() or status.st_mode & 0o077:
                raise ModelError(
                    f"{path.parent}: others may enter this folder; `chmod 700` it or choose --socket"
                )
        opened.enter_context(_only_one(path))
        if not WINDOWS:
            path.unlink(missing_ok=True)  # of a daemon that died
        family = "AF_PIPE" if WINDOWS else "AF_UNIX"
        listener = opened.enter_context(Listener(str(path), family=family))
        if not WINDOWS:
            path.chmod(0o600)
    except BlockingIOError:
        raise ModelError(f"{path}: a daemon is running already") from None
    except OSError as error:
        opened.close()
        raise ModelError(f"{path}: cannot listen there ({error.strerror or error})") from None
    with opened:
        yield listener
