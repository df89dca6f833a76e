"""Inverted maps of the index: which files define a name, which mention it.

Each file's part is subtracted before its new one is added, and only names that differ are touched,
so one edit costs what it changed. Equal contents give equal maps, in whatever order they came.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from qcoder.context.modules import ModuleMap
from qcoder.context.postings import Postings
from qcoder.context.record import Facts, Words, read_words

_NOTHING = Words((), (), frozenset())


class NameMaps:
    """Name -> files, for definitions and mentions; module path -> files."""

    def __init__(self) -> None:
        self.modules = ModuleMap()
        self._paths: list[str] = []
        self._numbers: dict[str, int] = {}
        self._free: list[int] = []
        self._definers = Postings()
        self._users = Postings()

    def replace(self, path: str, old: Facts | None, new: Facts | None) -> None:
        """Move one file from its old facts to its new ones; None stands for "not there"."""
        if old is new:
            return
        before = read_words(old.packed_words) if old else _NOTHING
        after = read_words(new.packed_words) if new else _NOTHING
        number = self._number(path)
        _shift(self._definers, number, before.defined, after.defined)
        _shift(self._users, number, before.identifiers, after.identifiers)
        if new is None:
            self._forget(path)

    def num_files(self) -> int:
        """How many files there are."""
        return len(self._numbers)

    def definers(self, name: str) -> tuple[str, ...]:
        """Files that define a name outside functions, sorted."""
        return tuple(sorted(self._named(self._definers.files(name))))

    def num_users(self, name: str) -> int:
        """How many files mention a name."""
        return self._users.count(name)

    def users(self, name: str) -> tuple[str, ...]:
        """Files that mention a name, in no order."""
        return tuple(self._named(self._users.files(name)))

    def is_defined(self, name: str) -> bool:
        """Whether some file defines the name outside functions."""
        return name in self._definers

    def contents(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Everything, in a comparable form: definers, users."""
        return (
            {name: list(self.definers(name)) for name in self._definers.names()},
            {name: sorted(self.users(name)) for name in self._users.names()},
        )

    def copy(self) -> NameMaps:
        """A copy to change or save while this one goes on; it resolves no modules."""
        copied = NameMaps()
        copied._paths, copied._numbers = self._paths.copy(), self._numbers.copy()
        copied._free = self._free.copy()
        copied._definers, copied._users = self._definers.copy(), self._users.copy()
        return copied

    def to_plain(self) -> list[Any]:
        """The msgpack form of everything but the modules, which follow from the paths."""
        return [self._paths, self._free, self._definers.to_plain(), self._users.to_plain()]

    @staticmethod
    def from_plain(plain: Sequence[Any]) -> NameMaps:
        """From the msgpack form; raises ValueError or TypeError on anything else."""
        paths, free, definers, users = plain
        maps = NameMaps()
        maps._paths, maps._free = list(paths), list(free)
        unused = frozenset(free)
        maps._numbers = {path: i for i, path in enumerate(paths) if i not in unused}
        for path in maps._numbers:
            maps.modules.add(path)
        maps._definers, maps._users = Postings.from_plain(definers), Postings.from_plain(users)
        return maps

    def _named(self, numbers: Iterable[int]) -> Iterable[str]:
        return map(self._paths.__getitem__, numbers)

    def _number(self, path: str) -> int:
        number = self._numbers.get(path)
        if number is None:
            self.modules.add(path)
            if self._free:
                number = self._free.pop()
                self._paths[number] = path
            else:
                number = len(self._paths)
                self._paths.append(path)
            self._numbers[path] = number
        return number

    def _forget(self, path: str) -> None:
        self.modules.remove(path)
        self._free.append(self._numbers.pop(path))


def _shift(
    postings: Postings, number: int, before: Collection[str], after: Collection[str]
) -> None:
    # A file that comes or goes needs no comparison, and a cold start is nothing but such files.
    if not before:
        postings.add(after, number)
    elif not after:
        postings.remove(before, number)
    else:
        old, new = frozenset(before), frozenset(after)
        postings.remove(old - new, number)
        postings.add(new - old, number)
