"""A process that reads and parses files for another: `python -m qcoder.context.worker`.

On stdin one message `[root, exclude patterns, careful, [[path, known hash or None], ...]]`, to the
end of the stream; on stdout `READY`, then one row a file in the same order (see `row_of`), in msgpack.
A careful worker sends each row at once, so that the other side knows which file was the last that
went well; otherwise rows are sent by the dozen, which costs both sides less.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgpack  # type: ignore[import-untyped]

from qcoder.context.privacy import exclude_spec
from qcoder.context.reading import Reading, read
from qcoder.context.record import from_plain, to_plain

READY = "ready"
_NICENESS = 5
_SENT_BYTES = 1 << 16


def serve(input_: BinaryIO, output: BinaryIO) -> None:
    """Answer one message."""
    root, exclude, careful, rows = msgpack.unpackb(input_.read(), unicode_errors="surrogatepass")
    spec = exclude_spec(exclude)
    output.write(msgpack.packb(READY))
    output.flush()
    unsent, unsent_bytes = [], 0
    for path, known_hash in rows:
        row = row_of(path, read(Path(root), path, spec, known_hash))
        unsent.append(msgpack.packb(row, unicode_errors="surrogatepass"))
        unsent_bytes += len(unsent[-1])
        if careful or unsent_bytes >= _SENT_BYTES:
            output.write(b"".join(unsent))
            output.flush()
            unsent, unsent_bytes = [], 0
    output.write(b"".join(unsent))
    output.flush()


def row_of(path: str, outcome: Reading | str) -> list[Any]:
    """The message about one file: a reason, or what identifies it and its facts."""
    if isinstance(outcome, str):
        return [path, outcome]
    facts = None if outcome.facts is None else to_plain(outcome.facts)
    return [path, outcome.size, outcome.mtime_ns, facts]


def outcome_of(row: Sequence[Any]) -> tuple[str, Reading | str]:
    """What a row says; raises ValueError or TypeError when it is none."""
    if len(row) == 2:
        return row[0], row[1]
    path, size, mtime_ns, facts = row
    return path, Reading(path, size, mtime_ns, None if facts is None else from_plain(facts))


def main() -> None:
    """Serve the process that started this one, and give way to it."""
    # Trees and matches are many objects without cycles: looking for some costs a tenth of the time.
    gc.disable()
    with contextlib.suppress(OSError, AttributeError):
        os.nice(_NICENESS)
    # The other side has gone, or was told to stop: so is this.
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
