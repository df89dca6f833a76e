"""Pages on disk: the same bits after a restart, nothing from damaged or foreign files."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from qcoder.kernels.native_library import library
from qcoder.model import page_archive
from qcoder.model.local import LocalEngine
from qcoder.model.request import GenerationRequest, Prompt

pytestmark = pytest.mark.skipif(
    library() is None, reason="the compiled kernels are not installed (no C++ compiler)"
)
STABLE = tuple((i * 37) % 3000 + 300 for i in range(500))


@pytest.fixture(autouse=True, scope="module")
def without_compiled_kernels() -> Iterator[None]:
    """Here they are used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QCODER_KERNELS", "cpu")
        yield


@pytest.fixture
def start(tmp_path: Path) -> Callable[[], LocalEngine]:
    """A process's engine: nothing in memory, the same files."""

    def make() -> LocalEngine:
        engine = LocalEngine.load("default", threads=1)
        engine.keep_on_disk(tmp_path / "pages")
        return engine

    return make


def run(engine: LocalEngine, ids: tuple[int, ...]) -> list[tuple[int, float]]:
    outs = engine.generate(GenerationRequest(Prompt(ids), max_tokens=4, mixture=False))
    return [(out.id, out.logprob) for out in outs]


def saved(start: Callable[[], LocalEngine], folder: Path) -> Path:
    """The file that an engine leaves."""
    engine = start()
    run(engine, (*STABLE, 400, 401, 402))
    run(engine, (*STABLE, 500, 501))
    engine.maintain()
    (path,) = folder.glob("pages/*/*.kv")
    return path


def test_the_part_that_stays_is_there_after_a_restart(
    start: Callable[[], LocalEngine], tmp_path: Path
) -> None:
    saved(start, tmp_path)
    cold = LocalEngine.load("default", threads=1)
    ids = (*STABLE, 600, 601, 602)
    expected = run(cold, ids)
    engine = start()
    assert run(engine, ids) == expected
    assert engine.stats().last.reused_tokens == 480, "all whole pages of what stayed the same"
    engine.check_integrity()
    again = engine.stats().last
    run(engine, (*ids, 603))
    assert engine.stats().last.reused_tokens > again.reused_tokens


def test_nothing_is_written_twice_and_longer_replaces_shorter(
    start: Callable[[], LocalEngine], tmp_path: Path
) -> None:
    path = saved(start, tmp_path)
    before = path.stat().st_mtime_ns
    engine = start()
    run(engine, (*STABLE, 1))
    run(engine, (*STABLE, 2))
    engine.maintain()
    assert path.stat().st_mtime_ns != before or path.exists()
    longer = (*STABLE, *STABLE[:300])
    run(engine, (*longer, 1))
    run(engine, (*longer, 2))
    engine.maintain()
    (only,) = tmp_path.glob("pages/*/*.kv")
    assert only != path


@pytest.mark.parametrize("damage", ["page", "header", "cut", "empty", "magic"])
def test_a_damaged_file_is_not_used(
    damage: str, start: Callable[[], LocalEngine], tmp_path: Path
) -> None:
    path = saved(start, tmp_path)
    data = bytearray(path.read_bytes())
    at = {"page": len(data) - 500, "header": 40, "magic": 2}.get(damage)
    if at is not None:
        data[at] ^= 1
    data = data[: {"cut": len(data) // 2, "empty": 0}.get(damage, len(data))]
    path.write_bytes(data)
    engine = start()
    ids = (*STABLE, 600, 601)
    assert run(engine, ids) == run(LocalEngine.load("default", threads=1), ids)
    assert engine.stats().reused_tokens == 0
    if damage in ("page", "cut"):
        assert not path.exists()


def test_files_of_another_model_are_left_alone(
    start: Callable[[], LocalEngine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(start, tmp_path)
    # As if the same folder were asked by a model with other weights.
    stretched = LocalEngine.load("default", threads=1, yarn_factor=2.0)
    stretched.keep_on_disk(tmp_path / "pages")
    run(stretched, (*STABLE, 600))
    assert stretched.stats().reused_tokens == 0
    foreign = page_archive.PageArchive(path.parent, "another", 98304)
    assert foreign.longest((*STABLE, 1)) == 0
    assert path.exists()


def test_an_interrupted_write_leaves_the_old_file(
    start: Callable[[], LocalEngine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(start, tmp_path)
    before = path.read_bytes()
    engine = start()
    longer = (*STABLE, *STABLE[:300])
    run(engine, (*longer, 1))
    run(engine, (*longer, 2))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page_archive.os, "fsync", full)
    engine.maintain()
    assert path.read_bytes() == before
    assert not list(path.parent.glob(".writing-*"))


WRITER = """
import os, signal, sys
from pathlib import Path
from qcoder.model.local import LocalEngine
from qcoder.model.request import GenerationRequest, Prompt

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(os, sys.argv[2], die)
engine = LocalEngine.load("default", threads=1)
engine.keep_on_disk(Path(sys.argv[1]))
for last in (1, 2):
    ids = tuple((i * 37) % 3000 + 300 for i in range(500))
    request = GenerationRequest(Prompt((*ids, *ids[:300], last)), max_tokens=1, mixture=False)
    list(engine.generate(request))
engine.maintain()
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_process_killed_while_writing_loses_what_it_was_writing_alone(
    start: Callable[[], LocalEngine], tmp_path: Path, moment: str
) -> None:
    path = saved(start, tmp_path)
    before = path.read_bytes()
    run_writer = [sys.executable, "-P", "-c", WRITER, str(tmp_path / "pages"), moment]
    assert subprocess.run(run_writer, check=False).returncode == -signal.SIGKILL
    assert list(path.parent.glob(".writing-*")), "it was killed in the middle"
    assert path.read_bytes() == before
    engine = start()
    run(engine, (*STABLE, 9))
    assert engine.stats().last.reused_tokens == len(STABLE) // 32 * 32


def test_what_a_killed_process_left_is_swept_up(
    start: Callable[[], LocalEngine], tmp_path: Path
) -> None:
    path = saved(start, tmp_path)
    old, new = path.parent / ".writing-1", path.parent / ".writing-2"
    for left in (old, new):
        left.write_bytes(b"half")
    os.utime(old, (0, time.time() - 2 * page_archive.STALE_S))
    start()
    assert not old.exists()
    assert new.exists(), "somebody may be writing it"


def test_the_least_used_files_go_first(
    start: Callable[[], LocalEngine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(start, tmp_path)
    other = path.parent.parent / "other" / "old.kv"
    other.parent.mkdir()
    other.write_bytes(bytes(1000))
    os.utime(other, (0, 0))
    monkeypatch.setattr(page_archive, "MAX_BYTES", path.stat().st_size * 2)
    engine = start()
    different = tuple(reversed(STABLE))
    for last in (1, 2):
        run(engine, (*different, last))
    engine.maintain()
    assert not other.exists()
    assert len(list(tmp_path.glob("pages/*/*.kv"))) == 2


def test_only_full_exact_pages_are_saved(start: Callable[[], LocalEngine]) -> None:
    engine = start()
    run(engine, STABLE)
    (sequence,) = engine._cache.sequences
    assert engine._archive is not None
    with pytest.raises(ValueError, match="only full pages"):
        engine._archive.save(sequence.pages)
    sequence.pages[0].age = 1
    with pytest.raises(ValueError, match="exact"):
        engine._archive.save(sequence.pages[:2])
    assert torch.isfinite(sequence.pages[0].data).all()
