"""The user's statistics on disk: one small file in the user's data folder, never sent anywhere.

The first line is magic, version and checksum, the second the counters of each day as JSON. Several
servers add to it: each holds a lock while it reads, adds and replaces the file as a whole. A file that
does not check is put aside by the next write.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import xxhash

from qcoder.lsp_server.usage import Days

logger = logging.getLogger(__name__)

MAGIC = "qcoder-usage 1"
MAX_DAYS = 400
MAX_BYTES = 4_000_000
LOCK_TRIES, LOCK_WAIT_S, STALE_LOCK_S = 20, 0.01, 10.0


def usage_path() -> Path:
    """Where the statistics lie."""
    import platformdirs  # only when they are read or written: keeps `--version` quick

    return platformdirs.user_data_path("qcoder", appauthor=False) / "usage.json"


def read(path: Path) -> Days:
    """Counters by day; none, with one warning, when the file is not whole."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("it is larger than it can be")
        header, _, body = path.read_text(encoding="utf-8").partition("\n")
        if header != _header(body):
            raise ValueError("its checksum or version does not match")
        days = json.loads(body)
        return {str(day): Counter(counts) for day, counts in days.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        logger.warning("statistics file=%s ignored: %s; counting begins anew", path, error)
        return {}


def add(path: Path, fresh: Days) -> bool:
    """Add counters to the file; False, with the file as it was, when that is not possible now."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock")) as locked:
            if not locked:
                return False
            days = read(path)
            for day, counts in fresh.items():
                days[day] = days.get(day, Counter()) + counts
            _replace(path, {day: days[day] for day in sorted(days)[-MAX_DAYS:]})
    except OSError as error:
        logger.warning("statistics file=%s not written: %s", path, error)
        return False
    return True


def _header(body: str) -> str:
    return f"{MAGIC} {xxhash.xxh3_64_hexdigest(body.encode('utf-8'))}"


def _replace(path: Path, days: Days) -> None:
    body = json.dumps(days, separators=(",", ":"))
    descriptor, temporary = tempfile.mkstemp(prefix=".usage-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{_header(body)}\n{body}")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold a lock file; one that a killed process left is broken. Gives whether it is held."""
    for _ in range(LOCK_TRIES):
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            break
        except FileExistsError:
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > STALE_LOCK_S:
                    path.unlink()
                    continue
            time.sleep(LOCK_WAIT_S)
    else:
        yield False
        return
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)
