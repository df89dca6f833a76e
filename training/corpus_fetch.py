"""Fetches the packages of `packages.toml` through the clients of their registries.

    python -m qcoder.training.corpus_fetch --packages PACKAGES

Owns: one folder `KIND/NAME/` a package, with nothing in it but source files and what states version and
licence. Does not own: the manifest (`corpus_sources.py`) or what is taken from it (`corpus.py`).

No code of a package runs: wheels, npm and Debian packages are unpacked, never installed, and
pip's question for the metadata of a source distribution is answered from its PKG-INFO. What is there
already in the pinned version is not fetched again, so an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from qcoder.training.corpus_sources import SUFFIX_LANGUAGE, Entry, ManifestError, read_manifest
from qcoder.training.heldout import DOWNLOADS, HeldOutError, run

VERSION_FILE = ".version"
STATEMENTS = frozenset({"METADATA", "PKG-INFO", "package.json", "copyright"})

# pip asks a source distribution's build backend for metadata, which for many means compilers.
# This module, first on the path of that one subprocess, stands in for every backend.
INERT_BACKEND = """
import os, shutil
from email.parser import HeaderParser
from pathlib import Path

for variable in ("_PYPROJECT_HOOKS_BUILD_BACKEND", "PEP517_BUILD_BACKEND"):
    if variable in os.environ:
        os.environ[variable] = "sitecustomize"
for variable in ("_PYPROJECT_HOOKS_BACKEND_PATH", "PEP517_BACKEND_PATH"):
    os.environ.pop(variable, None)


def get_requires_for_build_wheel(config_settings=None):
    return []


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    meta = HeaderParser().parsestr(Path("PKG-INFO").read_text(errors="replace"))
    name = meta["Name"].replace("-", "_") + "-" + meta["Version"] + ".dist-info"
    (Path(metadata_directory) / name).mkdir()
    shutil.copy("PKG-INFO", Path(metadata_directory) / name / "METADATA")
    return name
"""


def command(entry: Entry, scratch: Path) -> Sequence[str]:
    """The client's command line that puts one archive into the current folder."""
    if entry.kind == "sdist":
        stand_in = scratch / "backend"
        stand_in.mkdir()
        (stand_in / "sitecustomize.py").write_text(INERT_BACKEND)
        return (
            *("env", f"PYTHONPATH={stand_in}", sys.executable, "-m", "pip", "download", "--quiet"),
            *("--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--use-pep517"),
            *("--no-binary=:all:", f"{entry.name}=={entry.version}"),
        )
    registry, separator = REGISTRIES[entry.kind]
    return DOWNLOADS[registry](f"{entry.name}{separator}{entry.version}")


def fetch(entry: Entry, packages: Path) -> bool:
    """Fetch one package; False when it was there. Raises `HeldOutError` with the client's reason."""
    target = packages / entry.kind / entry.name
    stamp = target / VERSION_FILE
    if stamp.is_file() and stamp.read_text() == entry.version:
        return False
    packages.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=packages) as name:
        scratch = Path(name)
        archives, tree = scratch / "archives", scratch / "tree"
        archives.mkdir()
        tree.mkdir()
        run(command(entry, scratch), archives)
        for archive in archives.iterdir():
            unpack(archive, tree)
        tops = list(tree.iterdir())
        # npm and source distributions hold everything in one folder.
        root = tops[0] if entry.kind in ("npm", "sdist") and len(tops) == 1 else tree
        keep_source(root)
        (root / VERSION_FILE).write_text(entry.version)
        if target.is_dir():
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        root.rename(target)
    return True


def unpack(archive: Path, target: Path) -> None:
    """Extract one package's archive; links out of `target` are refused by tarfile's filter."""
    if archive.suffix == ".deb":
        run(("dpkg-deb", "-x", str(archive), str(target)), target)
    elif archive.suffix in (".whl", ".zip"):
        shutil.unpack_archive(archive, target, "zip")
    else:
        shutil.unpack_archive(archive, target, "gztar", filter="data")


def keep_source(root: Path) -> None:
    """Remove every file that is neither source text nor says version and licence."""
    for path in root.rglob("*"):
        is_wanted = path.suffix in SUFFIX_LANGUAGE or path.name in STATEMENTS
        if path.is_symlink() or (path.is_file() and not is_wanted):
            path.unlink()


REGISTRIES = {"pip": ("pip", "=="), "npm": ("npm", "@"), "deb": ("apt-get", "=")}
"""Key of `heldout.DOWNLOADS` and what stands between name and version, by kind."""


def fetch_all(
    entries: Sequence[Entry], packages: Path, report: Callable[[str], None], jobs: int
) -> int:
    """Fetch what is missing; a package that fails costs itself and one message. Returns failures."""
    wanted = [entry for entry in entries if entry.kind != "stdlib"]

    def failed(numbered: tuple[int, Entry]) -> bool:
        number, entry = numbered
        try:
            if fetch(entry, packages):
                report(f"[{number}/{len(wanted)}] {entry.kind} {entry.name} {entry.version}")
        except (HeldOutError, OSError, shutil.ReadError) as error:
            report(f"[{number}/{len(wanted)}] {entry.kind} {entry.name}: {error}")
            return True
        return False

    with ThreadPoolExecutor(jobs) as pool:
        return sum(pool.map(failed, enumerate(wanted, 1)))


def main() -> None:
    """Command line: see the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=4, help="packages at a time (default: 4)")
    args = parser.parse_args()
    try:
        entries, _ = read_manifest()
    except ManifestError as error:
        raise SystemExit(str(error)) from None
    failures = fetch_all(
        entries, args.packages, lambda line: print(line, file=sys.stderr), args.jobs
    )
    print(f"{failures} packages could not be fetched; the corpus is built from the others")


if __name__ == "__main__":
    main()
