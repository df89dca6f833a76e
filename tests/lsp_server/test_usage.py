import argparse
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from qcoder.lsp_server import usage_store
from qcoder.lsp_server.cli_stats import ROWS, stats
from qcoder.lsp_server.usage import TIME_PREFIX, Usage, figures, percentile_ms, summed, time_class
from qcoder.lsp_server.usage_store import MAX_DAYS, add, read, usage_path


def test_percentiles_are_right_within_a_tenth() -> None:
    usage = Usage()
    times = [0.3 * number for number in range(1, 1000)]
    for ms in times:
        usage.add_time(ms)
    (counts,) = usage.take().values()
    for share in (0.5, 0.95, 0.99):
        true = times[int(share * len(times))]
        assert percentile_ms(counts, share) == pytest.approx(true, rel=0.11)
    assert percentile_ms({}, 0.5) is None
    assert (time_class(0.0), time_class(1e9)) == (0, 127)


def test_taken_counts_are_gone() -> None:
    usage = Usage()
    usage.add("shown")
    assert len(usage.take()) == 1
    assert usage.take() == {}


def test_figures_without_a_whole_are_unknown_and_not_zero() -> None:
    some = figures(
        {"shown": 2, "generations": 3, "seen": 4, "accepted": 1, "partially_accepted": 1}
    )
    assert some["acceptance_rate"] == 0.5
    assert some["generations_a_shown"] == 1.5
    assert some["retained_30_s"] is None
    assert some["tokens_per_second"] is None
    assert {name for name, _, _ in ROWS} == {"days", *some}


def test_servers_add_up_and_old_days_go(tmp_path: Path) -> None:
    path = tmp_path / "data" / "usage.json"
    days = {
        f"{2020 + n // 300}-{1 + n % 300 // 25:02}-{1 + n % 25:02}": Counter(a=n + 1)
        for n in range(MAX_DAYS)
    }
    assert add(path, days)
    assert add(path, {"2026-11-21": Counter(a=2, b=1.5)})  # type: ignore[dict-item]
    assert add(path, {"2026-11-21": Counter(a=1)})
    kept = read(path)
    assert len(kept) == MAX_DAYS
    assert min(days) not in kept
    assert kept["2026-11-21"] == {"a": 3, "b": 1.5}
    assert summed(kept, 1)["days"] == 1
    assert not list(path.parent.glob(".usage-*"))


@pytest.mark.parametrize("damage", [b"", b"x", b"qcoder-usage 1 0\n{}", b"\xff\xfe", b"[1]"])
def test_a_damaged_file_is_begun_anew(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "usage.json"
    add(path, {"2026-11-21": Counter(a=1)})
    path.write_bytes(damage)
    assert read(path) == {}
    assert add(path, {"2026-11-21": Counter(a=2)})
    assert read(path)["2026-11-21"] == {"a": 2}


def test_a_held_lock_keeps_the_file_and_a_stale_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_store, "LOCK_WAIT_S", 0.0)
    path = tmp_path / "usage.json"
    lock = tmp_path / "usage.lock"
    lock.touch()
    assert not add(path, {"2026-11-21": Counter(a=1)})
    os.utime(lock, (0, 0))
    assert add(path, {"2026-11-21": Counter(a=1)})
    assert not lock.exists()


def test_command_prints_figures_and_deletes_them(capsys: pytest.CaptureFixture[str]) -> None:
    def run(**options: object) -> str:
        given = {"days": 30, "reset": False, "format": "text", **options}
        assert stats(argparse.Namespace(**given)) == 0
        return capsys.readouterr().out

    assert "nothing was counted yet" in run()
    counts = Counter({"seen": 8, "accepted": 2, "shown": 9, f"{TIME_PREFIX}30": 4})
    assert add(usage_path(), {"2026-11-21": counts})
    assert "25 %" in run()
    told = json.loads(run(format="json"))
    assert (told["acceptance_rate"], told["answer_p50_ms"]) == (0.25, 17.4)
    assert "deleted" in run(reset=True)
    assert not usage_path().exists()
