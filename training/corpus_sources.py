"""Where the training text lies: packages of the manifest, found in a folder of fetched packages.

Owns: the manifest's form (`packages.toml`), how each kind of package says its version and licence,
and which of its files may be read. Does not own: fetching (`corpus_fetch.py`), what a text has to
look like (`corpus_filters.py`).

The folder holds `KIND/NAME/` with one unpacked package each; kinds are `pip` (wheels), `sdist`, `npm`
and `deb`. The standard library of the running Python needs no fetching.
"""

from __future__ import annotations

import json
import os
import platform
import sysconfig
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

from qcoder.training.corpus_licences import debian_licences, is_permissive

MANIFEST = Path(__file__).parent / "packages.toml"
SUFFIX_LANGUAGE = {
    ".py": "python",
    ".ts": "typescript",
    ".tsx": "typescript",
    ".js": "javascript",
    ".mjs": "javascript",
    ".jsx": "javascript",
    ".go": "go",
    ".rs": "rust",
    ".c": "c",
    ".h": "c",
    ".cc": "cpp",
    ".cpp": "cpp",
    ".hpp": "cpp",
    ".hh": "cpp",
    ".inl": "cpp",
}
LANGUAGES = tuple(dict.fromkeys(SUFFIX_LANGUAGE.values()))
# What a package listed under a language may give: headers decide by their text whether they are C++.
FAMILY = {
    "javascript": frozenset({"javascript", "typescript"}),
    "c": frozenset({"c", "cpp"}),
    "cpp": frozenset({"c", "cpp"}),
}
_MIN_TYPESCRIPT_FILES = 5
_NEVER_ENTERED = frozenset({"node_modules", ".git", "__pycache__", "site-packages"})


class ManifestError(Exception):
    """`packages.toml` cannot be used; says what and where."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the manifest: a package of a kind, and the language it is taken for."""

    language: str
    kind: str
    name: str
    version: str
    licence: str = ""
    folder: str = ""
    cap_mb: float = 0.0


@dataclass(frozen=True, slots=True)
class Package:
    """A package that was found: its declared licence and its source files below `root`."""

    name: str
    version: str
    licence: str
    root: Path
    files: tuple[Path, ...]
    cap_mb: float = 0.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a package of the manifest gives no text."""

    name: str
    reason: str


def read_manifest(path: Path = MANIFEST) -> tuple[list[Entry], dict[str, str]]:
    """Entries of the manifest, and the excluded names with their reasons.

    Raises `ManifestError` for a malformed file, an unknown language or kind, or a name that is
    both listed and excluded.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ManifestError(f"{path}: {error}") from error
    excluded = {str(name): str(reason) for name, reason in data.pop("excluded", {}).items()}
    entries = []
    for language, kinds in data.items():
        if language not in LANGUAGES:
            raise ManifestError(f"{path}: [{language}] is not one of {', '.join(LANGUAGES)}")
        for kind, names in kinds.items():
            if kind not in READERS:
                raise ManifestError(f"{path}: [{language}.{kind}] is not one of {list(READERS)}")
            for name, value in names.items():
                if name in excluded:
                    raise ManifestError(f"{path}: {name} is listed and excluded")
                fields = value if isinstance(value, dict) else {"version": value}
                try:
                    entries.append(Entry(language, kind, name, **fields))
                except TypeError as error:
                    raise ManifestError(f"{path}: {name}: {error}") from error
    return entries, excluded


def find(entry: Entry, folder: Path) -> Package | Refusal:
    """The package of a manifest entry below `folder`, or why it cannot be used."""
    package = READERS[entry.kind](entry, folder)
    if isinstance(package, Refusal):
        return package
    if not is_permissive(package.licence):
        return Refusal(entry.name, f"licence {package.licence!r}")
    return package


def _pip(entry: Entry, folder: Path) -> Package | Refusal:
    """An unpacked wheel with the METADATA of its `.dist-info`."""
    root = folder / entry.kind / entry.name
    return _python_distribution(entry, root, next(root.glob("*.dist-info/METADATA"), None))


def _sdist(entry: Entry, folder: Path) -> Package | Refusal:
    """An unpacked source distribution with its PKG-INFO."""
    root = folder / entry.kind / entry.name
    return _python_distribution(entry, root, root / "PKG-INFO")


def _python_distribution(entry: Entry, root: Path, metadata: Path | None) -> Package | Refusal:
    """What PyPI has in either form: the metadata says version and licence."""
    if metadata is None or not metadata.is_file():
        return Refusal(entry.name, "not fetched")
    meta = HeaderParser().parsestr(metadata.read_text(encoding="utf-8", errors="replace"))
    files = _source_files(root / entry.folder, entry.language)
    licence = entry.licence or metadata_licence(meta)
    return _package(entry, str(meta["Version"]), licence, root, files)


def metadata_licence(meta: Message) -> str:
    """The licence that a Python distribution's metadata declares, most exact field first."""
    classifiers = [c for c in meta.get_all("Classifier", []) if c.startswith("License ::")]
    names = [c.split("::")[-1].strip() for c in classifiers]
    names = [name for name in names if name != "OSI Approved"]
    declared = meta.get("License-Expression") or "; ".join(names)
    return declared or (meta.get("License") or "").strip().split("\n")[0][:80]


def _npm(entry: Entry, folder: Path) -> Package | Refusal:
    """An unpacked npm package. One that ships TypeScript sources gives no compiled JavaScript."""
    root = folder / entry.kind / entry.name
    try:
        meta = json.loads((root / "package.json").read_text())
    except (OSError, ValueError):
        return Refusal(entry.name, "not fetched")
    files = _source_files(root, entry.language)
    typescript = [f for f in files if f.suffix in (".ts", ".tsx") and ".d." not in f.name]
    if len(typescript) >= _MIN_TYPESCRIPT_FILES:
        files = typescript
    licence = meta.get("license") or ""
    licence = licence.get("type", "") if isinstance(licence, dict) else str(licence)
    return _package(entry, str(meta.get("version")), entry.licence or licence, root, files)


def _deb(entry: Entry, folder: Path) -> Package | Refusal:
    """An unpacked Debian package; every licence of a source file has to be permissive.

    An entry that names its own licence was reviewed by hand: then `folder` says for which files.
    """
    root = folder / entry.kind / entry.name
    notice = root / "usr/share/doc" / entry.name / "copyright"
    if not root.is_dir():
        return Refusal(entry.name, "not fetched")
    licences = [entry.licence]
    if not entry.licence:
        if not notice.is_file():
            return Refusal(entry.name, "no copyright file of its own")
        licences = debian_licences(notice.read_text(errors="replace"))
        for licence in licences or ["not machine-readable"]:
            if not is_permissive(licence):
                return Refusal(entry.name, f"licence {licence!r}")
    files = [
        file
        for file in _source_files(root / entry.folder, entry.language)
        if not file.is_relative_to(root / "usr/share/doc")
    ]
    expression = licences[0] if len(licences) == 1 else "; ".join(licences)
    return _package(entry, entry.version, expression, root, files)


def _stdlib(entry: Entry, folder: Path) -> Package | Refusal:
    """The standard library of the running Python."""
    root = Path(sysconfig.get_path("stdlib"))
    files = _source_files(root, entry.language)
    version = platform.python_version()
    return _package(entry, version, entry.licence, root, files)


def _package(
    entry: Entry, version: str, licence: str, root: Path, files: list[Path]
) -> Package | Refusal:
    """The package, with its root moved to the deepest folder that names it well."""
    if not files:
        return Refusal(entry.name, "no source files")
    if entry.kind in ("deb", "sdist"):
        root = Path(os.path.commonpath([f.parent for f in files]))
        # `src/lib.rs` and `include/x.h` say more than `lib.rs` and `x.h`.
        root = root.parent if root.name in ("src", "include", "lib") else root
    return Package(entry.name, version, licence, root, tuple(files), entry.cap_mb)


def _source_files(root: Path, language: str) -> list[Path]:
    """Regular files below `root` whose suffix belongs to the language's family, sorted."""
    languages = FAMILY.get(language, frozenset({language}))
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in _NEVER_ENTERED)
        for name in sorted(names):
            if SUFFIX_LANGUAGE.get(os.path.splitext(name)[1]) in languages:
                path = Path(folder, name)
                if path.is_file() and not path.is_symlink():
                    found.append(path)
    return found


def packages(
    entries: list[Entry], folder: Path, report: Callable[[Refusal], None]
) -> Iterator[Package]:
    """Every usable package of the manifest in order; refusals go to `report`."""
    for entry in entries:
        package = find(entry, folder)
        if isinstance(package, Refusal):
            report(package)
        else:
            yield package


READERS: dict[str, Callable[[Entry, Path], Package | Refusal]] = {
    "stdlib": _stdlib,
    "pip": _pip,
    "sdist": _sdist,
    "npm": _npm,
    "deb": _deb,
}
