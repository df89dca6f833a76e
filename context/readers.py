"""Reading many files at once: in this process, or in others when there is much to parse.

Processes use every core, leave this one free to answer and take a parser that crashes with them: the
text it crashed on is indexed without an outline. Where no process can be started, or one does not
come up, the files are read here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pathspec

from qcoder.context.privacy import exclude_spec
from qcoder.context.reading import Reading, Request, is_spoiled, read
from qcoder.context.record import FileRecord
from qcoder.context.worker import READY, outcome_of

logger = logging.getLogger(__name__)

# Starting a process costs about as much as parsing half a megabyte.
PARALLEL_BYTES = 6_000_000
MAX_PROCESSES = 8
SILENCE_S = 60.0
COMMAND = (sys.executable, "-P", "-m", "qcoder.context.worker")
_POLL_S = 0.5
_MAX_QUEUED = 256
_READ_BYTES = 1 << 16

Outcome = tuple[str, FileRecord | str]
"""A path, and its record or why it has none."""


def read_files(
    root: Path,
    requests: Sequence[Request],
    exclude: Sequence[str],
    stop: Callable[[], bool],
    processes: int | None = None,
) -> Iterator[Outcome]:
    """Read files in no particular order; ends early when `stop` says so."""
    wanted = _num_processes(requests) if processes is None else processes
    left = list(requests)
    if wanted > 1:
        left = [request for request in requests if is_spoiled(request.path, request.known)]
        spoiled = frozenset(request.path for request in left)
        fit = [request for request in requests if request.path not in spoiled]
        team = _Team(root, exclude, fit, wanted)
        try:
            yield from team.outcomes(stop)
        finally:
            team.close()
        left += team.unread()
    spec = exclude_spec(exclude)
    for request in left:
        if stop():
            return
        yield request.path, read_record(root, request, spec)


def read_record(
    root: Path, request: Request, exclude: pathspec.GitIgnoreSpec | None
) -> FileRecord | str:
    """Read one file here and now."""
    known = request.known
    plain = is_spoiled(request.path, known)
    found = read(root, request.path, exclude, known.hash if known else None, plain)
    return _complete(request, found)


def _complete(request: Request, found: Reading | str) -> FileRecord | str:
    return found if isinstance(found, str) else found.record(request.known)


def _num_processes(requests: Sequence[Request]) -> int:
    if sum(request.size for request in requests) < PARALLEL_BYTES or not sys.executable:
        return 1
    # Containers give fewer cores than the machine has; only some systems say so.
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(cores, MAX_PROCESSES)


class _Team:
    """Some processes and one thread for each, which restarts its process after a crash."""

    def __init__(
        self, root: Path, exclude: Sequence[str], requests: Sequence[Request], size: int
    ) -> None:
        self._root = root
        self._exclude = list(exclude)
        self._outcomes: queue.Queue[list[Outcome] | None] = queue.Queue(_MAX_QUEUED)
        self._closed = threading.Event()
        # Dealt out by size, so that all end at about the same time.
        ordered = sorted(requests, key=lambda request: -request.size)
        parts = [ordered[i::size] for i in range(size)]
        self._members = [_Member(part) for part in parts]
        self._threads = [
            threading.Thread(target=self._work, args=(member,), daemon=True)
            for member in self._members
        ]
        for thread in self._threads:
            thread.start()

    def outcomes(self, stop: Callable[[], bool]) -> Iterator[Outcome]:
        """What the processes read, as it comes."""
        working = len(self._threads)
        while working:
            if stop():
                return
            try:
                outcomes = self._outcomes.get(timeout=_POLL_S)
            except queue.Empty:
                for member in self._members:
                    member.end_if_silent()
                continue
            if outcomes is None:
                working -= 1
            else:
                yield from outcomes

    def unread(self) -> list[Request]:
        """Files that no process got to."""
        return [request for member in self._members for request in member.left]

    def close(self) -> None:
        """End all processes."""
        self._closed.set()
        for member in self._members:
            member.end()
        while any(thread.is_alive() for thread in self._threads):
            with contextlib.suppress(queue.Empty):
                self._outcomes.get(timeout=0.01)

    def _work(self, member: _Member) -> None:
        """A member's thread: one process after the other until nothing is left."""
        spec = exclude_spec(self._exclude)
        careful = False
        while member.left and not self._closed.is_set():
            came_up = False
            try:
                for messages in member.run(self._root, self._exclude, careful):
                    if self._closed.is_set():
                        # `close` came before there was a process to end.
                        member.end()
                        continue
                    rows = messages if came_up else messages[1:]
                    came_up = came_up or messages[0] == READY
                    if came_up:
                        self._hand_on(member, rows)
            except (OSError, ValueError, TypeError) as error:
                logger.warning("a parsing process failed (%s)", type(error).__name__)
            if not came_up or self._closed.is_set():
                break
            if member.left and careful:
                request = member.left.popleft()
                path = request.path
                logger.warning("the parser crashed on %r: it is indexed as plain text", path)
                found = read(self._root, path, spec, plain=True)
                self._outcomes.put([(path, _complete(request, found))])
            # Which file it was shows only when every row is sent at once.
            careful = not careful
        self._outcomes.put(None)

    def _hand_on(self, member: _Member, rows: Sequence[Any]) -> None:
        taken: list[Outcome] = []
        try:
            for row in rows:
                taken += [member.take(row)]
        finally:
            # Those before one that makes no sense are ticked off already.
            self._outcomes.put(taken)


class _Member:
    """One process at a time, and what it still has to read."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.left = deque(requests)
        self._process: subprocess.Popen[bytes] | None = None
        self._last_heard = time.monotonic()

    def run(self, root: Path, exclude: list[str], careful: bool) -> Iterator[list[Any]]:
        """Messages of a new process that reads what is left, as many at a time as there are."""
        wanted = [[r.path, r.known.hash if r.known else None] for r in self.left]
        job = [str(root), exclude, careful, wanted]
        self._last_heard = time.monotonic()
        self._process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        unpacker = msgpack.Unpacker(unicode_errors="surrogatepass", max_buffer_size=0)
        with self._process as process:
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(msgpack.packb(job, unicode_errors="surrogatepass"))
                process.stdin.close()
            while data := os.read(process.stdout.fileno(), _READ_BYTES):
                unpacker.feed(data)
                if messages := list(unpacker):
                    self._last_heard = time.monotonic()
                    yield messages

    def take(self, message: Any) -> Outcome:
        """Tick a file off; raises ValueError for a message about another one."""
        path, found = outcome_of(message)
        if not self.left or self.left[0].path != path:
            raise ValueError("a row about another file")
        return path, _complete(self.left.popleft(), found)

    def end(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()

    def end_if_silent(self) -> None:
        """End a process that got stuck in one file; its thread goes on with the next."""
        if self._process is not None and time.monotonic() - self._last_heard > SILENCE_S:
            self.end()
