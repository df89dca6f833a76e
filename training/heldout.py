"""Repositories that the training never saw, for evaluation: fetched by name and pinned version.

Owns: where the development repositories come from, which of their files count, and reading a folder
of other repositories with a list of files. Does not own what is measured on them (`left_to_right.py`,
`holes.py`). Packages come through their registries' own clients (pip, npm, apt-get) into the user's
cache folder, once; the corpus refuses all of them by name, and none is ever committed.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_dir

from qcoder.context.imports import path_distance
from qcoder.context.languages import language_of

SKIPPED_FOLDERS = frozenset(
    (
        *("tests", "test", "testing", "testdata", "__tests__", "node_modules", "vendor", "dist"),
        *("locales", "locale", "templates", "fixtures", "migrations", "benchmarks", ".git"),
    )
)
SKIPPED_ENDS = ("_test.go", ".d.ts", ".d.mts", ".d.cts", ".min.js", "_pb2.py", ".test.ts")
MIN_CHARACTERS, MAX_CHARACTERS, MAX_LINE = 400, 200_000, 1000
FETCH_SECONDS = 180
GO_SOURCES = "usr/share/gocode/src/github.com/gin-gonic/gin"


class HeldOutError(Exception):
    """A repository or list cannot be had; the message says what, why and what to do."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """A development repository: `packages` of one registry, whose files under `inside` count."""

    name: str
    language: str
    registry: str
    packages: tuple[str, ...]
    inside: str = ""

    @property
    def folder(self) -> str:
        """Name of its folder in the cache; changes with every pinned version."""
        first = self.packages[0].rpartition("=")[2].rpartition("@")[2]
        return f"{self.name}-{first}"


DEVELOPMENT: tuple[Pinned, ...] = (
    Pinned("httpx", "python", "pip", ("httpx==0.28.1",)),
    Pinned("structlog", "python", "pip", ("structlog==26.1.0",)),
    Pinned("scrapy", "python", "pip", ("scrapy==2.19.0",)),
    Pinned("click", "python", "pip", ("click==8.5.1",)),
    Pinned("zod", "typescript", "npm", ("zod@4.6.7",), "package/src"),
    Pinned("axios", "javascript", "npm", ("axios@1.21.1",), "package/lib"),
    Pinned("gin", "go", "apt-get", ("golang-github-gin-gonic-gin-dev=1.8.1-1",), GO_SOURCES),
    Pinned(
        "ripgrep",
        "rust",
        "apt-get",
        (
            "librust-grep-searcher-dev=0.1.10-1",
            "librust-grep-printer-dev=0.1.6-1",
            "librust-grep-regex-dev=0.1.10-1",
            "librust-grep-cli-dev=0.1.6-2",
            "librust-grep-matcher-dev=0.1.5-2",
            "librust-globset-dev=0.4.9-1",
            "librust-ignore-dev=0.4.18-2+b1",
        ),
        "usr/share/cargo/registry",
    ),
)
"""Hono is held out too, but its package ships compiled JavaScript only: nothing to evaluate on."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file; `path` is relative to its repository's `root`, with slashes."""

    repository: str
    root: Path
    path: str
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Files to score, the whole workspaces they live in, and what could not be had."""

    scored: tuple[SourceFile, ...]
    workspaces: dict[str, tuple[SourceFile, ...]]
    notes: tuple[str, ...]

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages with files to score, in order of appearance."""
        return tuple(dict.fromkeys(file.language for file in self.scored))

    def others(self, file: SourceFile) -> list[SourceFile]:
        """The rest of a file's workspace, its own language and the nearest folders first."""

        def distance(other: SourceFile) -> tuple[bool, int, str]:
            far = path_distance(other.path, file.path)
            return other.language != file.language, far, other.path

        files = [other for other in self.workspaces[file.repository] if other.path != file.path]
        return sorted(files, key=distance)


def development(cache: Path | None = None) -> HeldOut:
    """The pinned development repositories, fetched where the cache lacks them.

    A repository that cannot be fetched is a note; raises `HeldOutError` when none can.
    """
    cache = cache or Path(user_cache_dir("qcoder", appauthor=False)) / "heldout"
    workspaces: dict[str, tuple[SourceFile, ...]] = {}
    scored: list[SourceFile] = []
    notes = []
    for pinned in DEVELOPMENT:
        try:
            root = fetch(pinned, cache)
        except HeldOutError as error:
            notes.append(f"{pinned.language}: {error}")
            continue
        files = read_repository(pinned.name, root)
        workspaces[pinned.name] = files
        own = [file for file in files if file.language == pinned.language]
        scored += own
        notes.append(f"{pinned.language}: {' '.join(pinned.packages)}, {len(own)} files")
    if not scored:
        raise HeldOutError("no held-out repository could be fetched: " + "; ".join(notes))
    return HeldOut(tuple(scored), workspaces, tuple(notes))


def listed(root: Path, list_file: Path) -> HeldOut:
    """Files that `list_file` names, one path a line, relative to `root`.

    The first part of a path is the repository; all its other files are the workspace.
    """
    try:
        lines = list_file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise HeldOutError(f"{list_file}: cannot be read ({error.strerror})") from None
    root = root.resolve()
    names = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    by_repository: dict[str, list[str]] = {}
    for name in names:
        repository, _, path = name.partition("/")
        by_repository.setdefault(repository, []).append(path)
    scored: list[SourceFile] = []
    workspaces = {}
    notes = []
    for repository, paths in by_repository.items():
        workspaces[repository] = read_repository(repository, root / repository)
        for path in paths:
            file = read_file(repository, root / repository, path)
            if file is None:
                notes.append(
                    f"{repository}/{path}: missing, too short, too long or unknown; skipped"
                )
            else:
                scored.append(file)
    if not scored:
        raise HeldOutError(f"{list_file}: no line names a source file below {root}")
    return HeldOut(tuple(scored), workspaces, tuple(notes))


def read_repository(name: str, root: Path) -> tuple[SourceFile, ...]:
    """The source files below `root` in all languages, tests and generated code left out."""
    found = []
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if SKIPPED_FOLDERS.intersection(relative.parts[:-1]) or path.name.endswith(SKIPPED_ENDS):
            continue
        file = read_file(name, root, relative.as_posix()) if path.is_file() else None
        if file is not None:
            found.append(file)
    return tuple(found)


def read_file(repository: str, root: Path, path: str) -> SourceFile | None:
    """One file, or None when it is not source text of a sensible size."""
    language = language_of(path)
    if not language or language == "text":
        return None
    try:
        text = (root / path).read_bytes().decode("utf-8").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError):
        return None
    if not MIN_CHARACTERS <= len(text) <= MAX_CHARACTERS or "\0" in text:
        return None
    if max(map(len, text.split("\n"))) > MAX_LINE:
        return None
    return SourceFile(repository, root, path, language, text)


def sample(files: Iterable[SourceFile], seed: int) -> list[SourceFile]:
    """All files in a seeded order that takes turns between the repositories."""
    rng = random.Random(seed)
    piles: dict[str, list[SourceFile]] = {}
    for file in files:
        piles.setdefault(file.repository, []).append(file)
    for pile in piles.values():
        rng.shuffle(pile)
    rounds = max(map(len, piles.values()), default=0)
    return [pile[turn] for turn in range(rounds) for pile in piles.values() if turn < len(pile)]


def fetch(pinned: Pinned, cache: Path) -> Path:
    """Folder of a repository's files, downloaded when the cache lacks it; raises `HeldOutError`."""
    target = cache / pinned.folder
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        archives, tree = Path(scratch) / "archives", Path(scratch) / "tree"
        archives.mkdir()
        tree.mkdir()
        for package in pinned.packages:
            run(DOWNLOADS[pinned.registry](package), archives)
        for archive in sorted(archives.iterdir()):
            unpack(archive, tree)
        inside = tree / pinned.inside
        if not inside.is_dir():
            raise HeldOutError(f"{pinned.name}: its package has no folder {pinned.inside!r}")
        inside.rename(target)
    return target


DOWNLOADS: dict[str, Callable[[str], Sequence[str]]] = {
    "pip": lambda package: (
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"),
        *("--no-deps", "--only-binary=:all:", package),
    ),
    "npm": lambda package: ("npm", "pack", "--silent", "--ignore-scripts", package),
    "apt-get": lambda package: ("apt-get", "download", "--quiet", package),
}
"""Command that puts one package's archive into the current folder, by registry."""


def run(command: Sequence[str], folder: Path) -> None:
    """Run a registry's client in `folder`; raises `HeldOutError`."""
    program = shutil.which(command[0])
    if program is None:
        raise HeldOutError(f"{command[-1]} needs {command[0]}, which is not installed")
    try:
        subprocess.run(
            [program, *command[1:]], cwd=folder, check=True, capture_output=True, text=True,
            timeout=FETCH_SECONDS,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        reason = (error.stderr or error.stdout).strip().splitlines()[-1:] or ["no reason given"]
        raise HeldOutError(f"{command[-1]} cannot be fetched: {reason[0]}") from None
    except subprocess.TimeoutExpired:
        raise HeldOutError(f"{command[-1]} took over {FETCH_SECONDS} s to fetch") from None


def unpack(archive: Path, target: Path) -> None:
    """Extract a wheel, an npm or a Debian package."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(target)
    elif archive.suffix == ".tgz":
        with tarfile.open(archive) as package:
            package.extractall(target, filter="data")
    else:
        run(("dpkg-deb", "-x", str(archive), str(target)), target)
