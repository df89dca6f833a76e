"""Postings behave like sets of files by name, and a copy is a snapshot."""

from __future__ import annotations

import random

import msgpack
import pytest

from qcoder.context.postings import Postings


def contents(postings: Postings) -> dict[str, set[int]]:
    return {name: set(postings.files(name)) for name in postings.names()}


@pytest.mark.parametrize("spread", [5, 500])
def test_random_changes_equal_those_of_sets(spread: int) -> None:
    """With the wide spread names get long: the ones that are added to in an array."""
    rng = random.Random(3)
    postings, expected = Postings(), {}
    names = [f"name_{i}" for i in range(7)]
    for step in range(80 * spread):
        name, number = rng.choice(names), rng.randrange(1 << 20, (1 << 20) + spread)
        if number in expected.get(name, set()):
            postings.remove([name], number)
            expected[name].discard(number)
            if not expected[name]:
                del expected[name]
        else:
            postings.add([name], number)
            expected.setdefault(name, set()).add(number)
        if step % 7 == 0:  # asking ends an array
            assert postings.count(name) == len(expected.get(name, ()))
        assert (name in postings) == (name in expected)
    assert contents(postings) == expected


def test_copy_and_saved_form_of_long_names_hold_all() -> None:
    postings = Postings()
    for number in range(300):
        postings.add(["one"], number)
    copied, saved = postings.copy(), Postings.from_plain(postings.to_plain())
    for number in range(300, 400):
        postings.add(["one"], number)
        copied.add(["one"], number + 1000)
    assert contents(postings) == {"one": set(range(400))}
    assert contents(saved) == {"one": set(range(300))}
    assert contents(copied) == {"one": {*range(300), *range(1300, 1400)}}


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
