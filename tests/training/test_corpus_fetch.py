"""Fetching with stand-ins for the registries' clients: what stays, what is skipped, what fails."""

import io
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from qcoder.training import corpus_fetch
from qcoder.training.corpus_fetch import command, fetch, fetch_all
from qcoder.training.corpus_sources import Entry
from qcoder.training.heldout import HeldOutError

WHEEL = Entry("python", "pip", "walk", "1.0")
NPM = Entry("typescript", "npm", "@scope/walk", "2.0")
FILES = {
    "walk/a.py": "x = 1\n",
    "walk/data.bin": "no source",
    "walk-1.0.dist-info/METADATA": "Name: walk\n",
}


class Registry:
    """Stands in for `heldout.run`: writes an archive where the client would."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, wanted: Sequence[str], folder: Path) -> None:
        self.asked.append(wanted[-1])
        if wanted[-1].startswith("gone"):
            raise HeldOutError("gone==1.0 cannot be fetched: no such package")
        if wanted[0] == "npm":
            with tarfile.open(folder / "walk-2.0.tgz", "w:gz") as archive:
                for name, text in {"package/package.json": "{}", "package/src/a.ts": "x"}.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(text)
                    archive.addfile(member, io.BytesIO(text.encode()))
        else:
            with zipfile.ZipFile(folder / "walk-1.0-py3-none-any.whl", "w") as archive:
                for name, text in FILES.items():
                    archive.writestr(name, text)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    stand_in = Registry()
    monkeypatch.setattr(corpus_fetch, "run", stand_in)
    return stand_in


def test_only_sources_and_statements_stay(tmp_path: Path, registry: Registry) -> None:
    assert fetch(WHEEL, tmp_path)
    root = tmp_path / "pip/walk"
    kept = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
    assert kept == {"walk/a.py", "walk-1.0.dist-info/METADATA", ".version"}
    assert [p.name for p in tmp_path.iterdir()] == ["pip"]


def test_folder_around_an_npm_package_is_left_out(tmp_path: Path, registry: Registry) -> None:
    assert fetch(NPM, tmp_path)
    assert (tmp_path / "npm/@scope/walk/src/a.ts").read_text() == "x"


def test_pinned_version_is_fetched_once_and_another_replaces_it(
    tmp_path: Path, registry: Registry
) -> None:
    assert fetch(WHEEL, tmp_path)
    (tmp_path / "pip/walk/stale.py").write_text("")
    assert not fetch(WHEEL, tmp_path)
    assert fetch(Entry("python", "pip", "walk", "1.1"), tmp_path)
    assert registry.asked == ["walk==1.0", "walk==1.1"]
    assert not (tmp_path / "pip/walk/stale.py").exists()


def test_package_that_fails_costs_only_itself(tmp_path: Path, registry: Registry) -> None:
    stdlib = Entry("python", "stdlib", "cpython", "3.11")
    lines: list[str] = []
    failures = fetch_all(
        [stdlib, Entry("python", "pip", "gone", "1.0"), WHEEL], tmp_path, lines.append, jobs=2
    )
    assert failures == 1
    assert sorted(lines) == [
        "[1/2] pip gone: gone==1.0 cannot be fetched: no such package",
        "[2/2] pip walk 1.0",
    ]
    assert (tmp_path / "pip/walk").is_dir()


def test_metadata_of_a_source_distribution_comes_without_running_it(tmp_path: Path) -> None:
    words = command(Entry("rust", "sdist", "walk", "1.0"), tmp_path)
    path = next(word for word in words if word.startswith("PYTHONPATH=")).partition("=")[2]
    source, output = tmp_path / "source", tmp_path / "output"
    source.mkdir()
    output.mkdir()
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: big-walk\nVersion: 1.0\n")
    # The question as pip's subprocess asks it: import the named backend, call its hook.
    question = (
        "import importlib, os; m = importlib.import_module(os.environ['PEP517_BUILD_BACKEND']); "
        f"print(m.prepare_metadata_for_build_wheel({str(output)!r}))"
    )
    environment = {**os.environ, "PYTHONPATH": path, "PEP517_BUILD_BACKEND": "missing_compiler"}
    done = subprocess.run(
        [sys.executable, "-c", question],
        cwd=source, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.strip() == "big_walk-1.0.dist-info"
    assert (output / "big_walk-1.0.dist-info/METADATA").is_file()
