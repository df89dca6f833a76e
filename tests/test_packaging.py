"""The wheel holds what the folders hold, under the import name, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("context", "kernels", "lsp_server", "model", "training")
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "qcoder", *FOLDERS)
JUNK = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built once from a copy: an old build/ of the checkout must not leak into it."""
    tree = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, symlinks=True, ignore=JUNK)
        else:
            shutil.copy(source, tree / name)
    command = [sys.executable, "-P", "-m", "build", "--wheel", "--no-isolation"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (built,) = (tree / "dist").glob("*.whl")
    return zipfile.ZipFile(built)


def expected_files() -> set[str]:
    """What users need of every folder, by its path inside the wheel."""
    found = {"qcoder/__init__.py", "qcoder/py.typed", "qcoder/training/packages.toml"}
    for folder in FOLDERS:
        found |= {f"qcoder/{folder}/{path.name}" for path in (ROOT / folder).glob("*.py")}
    found |= {f"qcoder/kernels/gpu/{path.name}" for path in (ROOT / "kernels" / "gpu").glob("*.py")}
    for path in (ROOT / "context" / "queries").iterdir():
        if path.suffix in (".py", ".scm"):
            found.add(f"qcoder/context/queries/{path.name}")
    for path in (ROOT / "lsp_server" / "rules").iterdir():
        if path.suffix in (".py", ".yml"):
            found.add(f"qcoder/lsp_server/rules/{path.name}")
    for path in (ROOT / "model" / "weights").glob("*/*"):
        found.add(f"qcoder/model/weights/{path.parent.name}/{path.name}")
    return found


def test_wheel_holds_exactly_the_folders(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert {name for name in packed if not is_compiled(name)} == expected_files()


@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler")
def test_wheel_holds_what_is_compiled(wheel: zipfile.ZipFile) -> None:
    found = {name.partition(".")[0] for name in wheel.namelist() if is_compiled(name)}
    assert found == {"qcoder/kernels/_native", "qcoder/context/_words"}


def test_one_wheel_serves_every_python(wheel: zipfile.ZipFile) -> None:
    assert "-cp311-abi3-" in str(wheel.filename)
    assert all(".abi3." in name for name in wheel.namelist() if is_compiled(name))


def is_compiled(name: str) -> bool:
    return name.startswith(("qcoder/kernels/_native.", "qcoder/context/_words."))


def test_wheel_brings_one_top_level_name(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"qcoder"}


def test_wheel_declares_both_commands(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    lines = wheel.read(name).decode().splitlines()
    assert "qcoder = qcoder.lsp_server.cli:main" in lines
    assert "qcoder-lsp = qcoder.lsp_server.lsp_cli:main" in lines


def test_wheel_carries_the_licence(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("licenses/LICENSE"))
    assert wheel.read(name) == (ROOT / "LICENSE").read_bytes()


def test_every_python_folder_is_flat_and_mapped() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        setuptools = tomllib.load(file)["tool"]["setuptools"]
    assert set(setuptools["packages"]) == set(setuptools["package-dir"])
    for folder in FOLDERS:
        inner = {path.parent for path in (ROOT / folder).rglob("*.py")} - {ROOT / folder}
        mapped = {ROOT / place for place in setuptools["package-dir"].values()}
        assert inner <= mapped, f"{inner - mapped} would be missing from the wheel"
