"""What is wanted at a cursor, read backwards from it."""

from __future__ import annotations

import pytest

from qcoder.context.record import FileRecord, analyse
from qcoder.context.site import Wanted, make_site, wanted_at

CASES = {
    "x = ": Wanted("", False, (), False),
    "x = foo": Wanted("foo", False, (), False),
    "self.": Wanted("", True, ("self",), False),
    "self.pool.conn": Wanted("conn", True, ("self", "pool"), False),
    "make(a, (b))[0].": Wanted("", True, ("make()",), False),
    "repo.find<User>({a: 1}).": Wanted("", True, ("repo", "find()"), False),
    "ptr->": Wanted("", True, ("ptr",), False),
    "Type::ne": Wanted("ne", True, ("Type",), False),
    "user?.": Wanted("", True, ("user",), False),
    "user!.na": Wanted("na", True, ("user",), False),
    "qb\n    .where(x)\n    .": Wanted("", True, ("qb", "where()"), False),
    '"text".': Wanted("", True, ("()",), False),
    "throw new Er": Wanted("Er", False, (), True),
    "raise ": Wanted("", False, (), True),
    "[...": Wanted("", False, (), False),
    "": Wanted("", False, (), False),
    ")))).": Wanted("", True, ("()",), False),
}


@pytest.mark.parametrize("prefix", CASES)
def test_wanted_is_read_backwards(prefix: str) -> None:
    assert wanted_at(prefix) == CASES[prefix]


def test_hostile_prefixes_end() -> None:
    for prefix in ("(" * 10_000 + ".", ")" * 10_000 + ".", "a." * 10_000, "." * 10_000):
        assert isinstance(wanted_at(prefix), Wanted)


def test_nearest_occurrence_of_a_name_counts() -> None:
    record = FileRecord("a.py", 0, 0, analyse("", "python"))
    site = make_site(record, "alpha beta\nalpha gamma ", "delta", (0, 2), ())
    assert site.near["gamma"] < site.near["alpha"] < site.near["beta"] < site.near["delta"]
    assert site.similar == {"alpha", "beta", "gamma"}
