"""Postings behave like sets of files by name, and a copy is a snapshot."""

from __future__ import annotations

import random

import msgpack
import pytest

from qcoder.context.postings import Postings


def contents(postings: Postings) -> dict[str, set[int]]:
    return {name: set(postings.files(name)) for name in postings.names()}


def test_random_changes_equal_those_of_sets() -> None:
    rng = random.Random(3)
    postings, expected = Postings(), {}
    names = [f"name_{i}" for i in range(7)]
    for _ in range(400):
        name, number = rng.choice(names), rng.randrange(1 << 20, (1 << 20) + 5)
        if number in expected.get(name, set()):
            postings.remove([name], number)
            expected[name].discard(number)
            if not expected[name]:
                del expected[name]
        else:
            postings.add([name], number)
            expected.setdefault(name, set()).add(number)
        assert postings.count(name) == len(expected.get(name, ()))
        assert (name in postings) == (name in expected)
    assert contents(postings) == expected


def test_copy_does_not_follow_its_original() -> None:
    postings = Postings()
    postings.add(["one", "two"], 1)
    copied = postings.copy()
    postings.add(["one"], 2)
    postings.remove(["two"], 1)
    assert contents(copied) == {"one": {1}, "two": {1}}


@pytest.mark.parametrize("names", [[], ["only"], ["é", "a b", ""]])
def test_saved_form_gives_the_same(names: list[str]) -> None:
    postings = Postings()
    for number in (0, 63, 1 << 31):
        postings.add(names, number)
    plain = msgpack.unpackb(msgpack.packb(postings.to_plain()))
    assert contents(Postings.from_plain(plain)) == contents(postings)


def test_damaged_form_is_refused() -> None:
    postings = Postings()
    postings.add(["one", "two"], 7)
    names, sizes, numbers = postings.to_plain()
    for damaged in ([names, sizes, numbers[:-1]], ["one", sizes, numbers], [names, b"", numbers]):
        with pytest.raises((ValueError, TypeError)):
            Postings.from_plain(damaged)
