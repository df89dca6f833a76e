"""From names to files, compactly: a dictionary of immutable bytes, so that a copy is a snapshot.

A file is a number; the files of a name are its 32-bit numbers side by side, in no order. A million
lines are about a million such pairs: as bytes they take a tenth of what lists of paths would. To a name
of many files numbers are added in an array, since bytes would be copied each time; whoever needs all
in bytes (`_joined`) ends these arrays.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

_ID_BYTES = 4
_EMPTY = b""
_LONG_BYTES = 64 * _ID_BYTES


class Postings:
    """Name -> numbers of files."""

    def __init__(self, entries: dict[str, bytes] | None = None) -> None:
        self._entries = {} if entries is None else entries
        self._added: dict[str, array[int]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def add(self, names: Iterable[str], number: int) -> None:
        """Add a file to names that do not have it yet."""
        entries, added, packed = self._entries, self._added, array("I", (number,)).tobytes()
        get = entries.get
        for name in names:
            known = get(name, _EMPTY)
            if len(known) < _LONG_BYTES:
                entries[name] = known + packed
            elif name in added:
                added[name].append(number)
            else:
                added[name] = array("I", (number,))

    def remove(self, names: Iterable[str], number: int) -> None:
        """Take a file from names that have it."""
        for name in names:
            numbers = array("I", self._joined(name))
            numbers.remove(number)
            if numbers:
                self._entries[name] = numbers.tobytes()
            else:
                del self._entries[name]

    def files(self, name: str) -> Sequence[int]:
        """Numbers of the files of a name, in no order."""
        return array("I", self._joined(name))

    def count(self, name: str) -> int:
        """How many files a name has."""
        return len(self._joined(name)) // _ID_BYTES

    def names(self) -> Iterable[str]:
        """Every name."""
        return self._entries.keys()

    def copy(self) -> Postings:
        """An independent copy; costs a look at every name, but copies no numbers."""
        self._join()
        return Postings(self._entries.copy())

    def to_plain(self) -> list[Any]:
        """The msgpack form: names in one text, numbers in one array, and how many each has."""
        self._join()
        values = self._entries.values()
        sizes = array("I", map(len, values))
        return ["\n".join(self._entries), sizes.tobytes(), b"".join(values)]

    def _joined(self, name: str) -> bytes:
        """The numbers of a name, all in bytes from now on."""
        added = self._added.pop(name, None)
        if added is not None:
            self._entries[name] += added.tobytes()
        return self._entries.get(name, _EMPTY)

    def _join(self) -> None:
        for name in tuple(self._added):
            self._joined(name)

    @staticmethod
    def from_plain(plain: Sequence[Any]) -> Postings:
        """From the msgpack form; raises ValueError or TypeError on anything else."""
        text, packed_sizes, numbers = plain
        names = text.split("\n") if text else []
        ends = list(accumulate(array("I", packed_sizes)))
        if len(names) != len(ends) or (ends[-1] if ends else 0) != len(numbers):
            raise ValueError("the sizes of the postings do not match")
        starts = [0, *ends[:-1]] if ends else []
        parts = [numbers[start:end] for start, end in zip(starts, ends, strict=True)]
        return Postings(dict(zip(names, parts, strict=True)))
