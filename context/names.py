"""Inverted maps of the index: which files define a name, which mention it, how often it is called.

Each file's part is subtracted before its new one is added, and only names that differ are touched,
so one edit costs what it changed. Equal contents give equal maps, in whatever order they came.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from qcoder.context.imports import ModuleMap
from qcoder.context.languages import is_data
from qcoder.context.record import Facts


class NameMaps:
    """Name -> files, for definitions and mentions; calls by name; module path -> files."""

    def __init__(self) -> None:
        self.modules = ModuleMap()
        self._definers: defaultdict[str, list[str]] = defaultdict(list)
        self._users: defaultdict[str, list[str]] = defaultdict(list)
        self._calls: Counter[str] = Counter()

    def replace(self, path: str, old: Facts | None, new: Facts | None) -> None:
        """Move one file from its old facts to its new ones; None stands for "not there"."""
        if old is new:
            return
        if old is None:
            self.modules.add(path)
        elif new is None:
            self.modules.remove(path)
        _shift(self._definers, path, _defined(old), _defined(new))
        _shift(
            self._users,
            path,
            set(old.identifiers) if old else set(),
            set(new.identifiers) if new else set(),
        )
        if old is not None:
            self._calls.subtract(old.references)
            for name in old.references:
                if not self._calls[name]:
                    del self._calls[name]
        if new is not None:
            self._calls.update(new.references)

    def definers(self, name: str) -> tuple[str, ...]:
        """Files that define a name outside functions, sorted."""
        return tuple(sorted(self._definers.get(name, ())))

    def num_users(self, name: str) -> int:
        """How many files mention a name."""
        return len(self._users.get(name, ()))

    def users(self, name: str) -> tuple[str, ...]:
        """Files that mention a name, in no order."""
        return tuple(self._users.get(name, ()))

    def calls(self, name: str) -> int:
        """How often the workspace calls a name."""
        return self._calls.get(name, 0)

    def is_defined(self, name: str) -> bool:
        """Whether some file defines the name outside functions."""
        return name in self._definers

    def contents(self) -> tuple[dict[str, list[str]], dict[str, list[str]], dict[str, int]]:
        """Everything, in a comparable form: definers, users, calls."""
        return (
            {name: sorted(paths) for name, paths in self._definers.items()},
            {name: sorted(paths) for name, paths in self._users.items()},
            dict(self._calls),
        )


def _defined(facts: Facts | None) -> set[str]:
    """Names that code elsewhere can mean; a key of a configuration file is none."""
    if facts is None or is_data(facts.language):
        return set()
    return {s.name for s in facts.symbols if not s.nested}


def _shift(postings: defaultdict[str, list[str]], path: str, old: set[str], new: set[str]) -> None:
    for name in old - new:
        _drop(postings, name, path)
    for name in new - old:
        postings[name].append(path)


def _drop(postings: dict[str, list[str]], name: str, path: str) -> None:
    paths = postings[name]
    # Order means nothing here: the last one takes the place of the one that goes.
    position = paths.index(path)
    last = paths.pop()
    if position < len(paths):
        paths[position] = last
    if not paths:
        del postings[name]
