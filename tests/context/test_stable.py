"""The stable tier stays while somebody types; equal files are pointed at; room is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcoder.context.index import Index
from qcoder.context.pack import pack, render
from qcoder.context.segments import Document, Level, PackedContext, Tier
from qcoder.context.stable import stable_room

LIBRARY_FILES = 12


def count(text: str) -> int:
    return (len(text.encode()) + 3) // 4


def library(number: int) -> str:
    functions = "".join(
        f'def task_{number}_{i}(first, second=None):\n    """Does part {i}."""\n'
        f"    return first + {number * i}\n\n\n"
        for i in range(20)
    )
    return f'"""Library {number}."""\n\n\n{functions}'


@pytest.fixture
def index(tmp_path: Path) -> Index:
    for number in range(LIBRARY_FILES):
        (tmp_path / f"lib{number}.py").write_text(library(number))
    (tmp_path / "copy.py").write_text(library(1))
    index = Index.open(tmp_path, tmp_path / ".cache")
    index.refresh()
    return index


def stable_text(packed: PackedContext) -> str:
    return "".join(render(s) for s in packed.segments if s.tier is Tier.STABLE)


def main_file(body: str) -> str:
    imports = "".join(f"import lib{number}\n" for number in range(6))
    return f"{imports}\n\ndef main():\n    x = 1\n{body}"


@pytest.mark.parametrize("budget", [4000, 8192, 40_000])
def test_stable_tier_stays_while_somebody_types(index: Index, budget: int) -> None:
    body, seen = "", set()
    for number in range(12):
        body += f"    y{number} = lib{number % 6}.task_{number % 6}_{number}(x)\n"
        text = main_file(body)
        document = Document("file:///main.py", number, "python", text)
        index.overlay("main.py", document)
        packed = pack(index, document, "main.py", text.count("\n"), 0, budget, count)
        seen.add(stable_text(packed))
    assert len(seen) == 1
    assert len(seen.pop()) > 500


def test_tiers_come_in_order_and_small_budgets_have_no_stable_one(index: Index) -> None:
    text = main_file("    lib1.task_1_3(")
    document = Document("file:///main.py", 1, "python", text)
    order = list(Tier)
    for budget in (700, 4000, 60_000):
        packed = pack(
            index, document, "main.py", text.count("\n"), 99, budget, count, ["lib7.py", "lib8.py"]
        )
        places = [order.index(segment.tier) for segment in packed.segments]
        assert places == sorted(places)
        assert (0 in places) == (budget > 3000)
    session = [s.segment.path for s in packed.segments if s.tier is Tier.SESSION]
    assert session == ["lib8.py", "lib7.py"]


def test_opening_a_file_appends_to_the_session_tier(index: Index) -> None:
    document = Document("file:///main.py", 1, "python", main_file(""))
    recent: list[str] = []
    before: list[str] = []
    for number in (7, 9, 8, 10):
        recent.insert(0, f"lib{number}.py")
        packed = pack(index, document, "main.py", 9, 0, 60_000, count, recent)
        now = [s.segment.path for s in packed.segments if s.tier is Tier.SESSION]
        assert now[: len(before)] == before
        before = now
    assert before == ["lib7.py", "lib9.py", "lib8.py", "lib10.py"]


def test_copy_of_a_shown_file_is_a_line_that_points_there(index: Index) -> None:
    document = Document("file:///main.py", 1, "python", main_file(""))
    packed = pack(index, document, "main.py", 9, 0, 1_000_000, count)
    pointers = [s for s in packed.segments if s.level is Level.PATH]
    assert len(pointers) == 1
    shown = {s.segment.path for s in packed.segments if s.level is Level.BODY}
    assert pointers[0].segment.text.removeprefix("# same as ").strip() in shown
    assert {"lib1.py", "copy.py"} - shown == {pointers[0].segment.path}


@pytest.mark.parametrize("budget", [1024, 2048, 4096])
def test_room_is_used_where_the_workspace_has_that_much(index: Index, budget: int) -> None:
    document = Document("file:///main.py", 1, "python", main_file("    lib1."))
    packed = pack(index, document, "main.py", 10, 99, budget, count)
    assert 0.9 * budget <= packed.tokens <= budget


def test_everything_fits_a_large_budget(index: Index) -> None:
    document = Document("file:///main.py", 1, "python", main_file(""))
    packed = pack(index, document, "main.py", 9, 0, 1_000_000, count)
    paths = [s.segment.path for s in packed.segments]
    assert set(index.paths()) <= set(paths)
    assert len(paths) == len(set(paths))


def test_stable_room_depends_on_the_budget_alone_and_grows_with_it() -> None:
    rooms = [sum(stable_room(budget)) for budget in (1000, 4000, 16_000, 64_000, 1_000_000)]
    assert rooms == sorted(rooms)
    assert rooms[0] == 0
    assert rooms[-1] >= 700_000
