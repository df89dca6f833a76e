"""What an index keeps between two runs, and its form on disk (`store.py` writes it).

Facts and maps are saved in the packed form in which they are used, so that a start reads a million
lines in a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qcoder.context.names import NameMaps
from qcoder.context.record import FileRecord, from_plain, to_plain


@dataclass(frozen=True, slots=True)
class Rejected:
    """A file that was looked at and left out, in the version that was looked at."""

    size: int
    mtime_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class Saved:
    """The disk's side of an index; the maps are those of exactly these records.

    `exclude` are the user's patterns that decided what was read.
    """

    records: Mapping[str, FileRecord]
    rejected: Mapping[str, Rejected]
    maps: NameMaps
    exclude: tuple[str, ...]


def to_payload(saved: Saved) -> dict[str, Any]:
    """The msgpack form."""
    facts_at: dict[tuple[bytes, str], int] = {}
    facts: list[Any] = []
    rows: list[Any] = []
    for path, record in sorted(saved.records.items()):
        key = (record.facts.hash, record.facts.language)
        if key not in facts_at:
            facts_at[key] = len(facts)
            facts.append(to_plain(record.facts))
        rows.append([path, record.size, record.mtime_ns, facts_at[key]])
    rejected = [[p, r.size, r.mtime_ns, r.reason] for p, r in sorted(saved.rejected.items())]
    return {
        "files": rows,
        "facts": facts,
        "rejected": rejected,
        "maps": saved.maps.to_plain(),
        "exclude": saved.exclude,
    }


def from_payload(payload: Any) -> Saved:
    """From the msgpack form; raises ValueError, TypeError, KeyError or IndexError on any other."""
    facts = [from_plain(plain) for plain in payload["facts"]]
    records = {
        path: FileRecord(path, size, mtime_ns, facts[position])
        for path, size, mtime_ns, position in payload["files"]
    }
    rejected = {path: Rejected(*version) for path, *version in payload["rejected"]}
    maps = NameMaps.from_plain(payload["maps"])
    if len(records) != maps.num_files():
        raise ValueError("records and maps are of different files")
    return Saved(records, rejected, maps, tuple(payload["exclude"]))
