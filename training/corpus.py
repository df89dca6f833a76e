"""The training text: source files of packages installed by name, permissive licences only.

    python -m qcoder.training.corpus_fetch --packages PACKAGES
    python -m qcoder.training.corpus --packages PACKAGES --output CORPUS

Owns: the build, from packages to one JSON-lines file a language (`package`, `path`, `text`,
`quality`), what counts as known already, the share that one package may have,
`attribution.json`, which names every package with its licence and a checksum of what was taken, and
`report.json`, which counts what was dropped and why. Does not own: tokenization
(`tokenizer.py`) or how text becomes training items (`items.py`). The output is never committed: the
corpus *is* the code it was made from.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from qcoder.training import corpus_filters, heldout
from qcoder.training.corpus_sources import (
    LANGUAGES,
    SUFFIX_LANGUAGE,
    ManifestError,
    Package,
    Refusal,
    packages,
    read_manifest,
)
from qcoder.training.near_duplicates import SharedRuns, SimilarTexts, signature, words

HELD_OUT = frozenset({"httpx", "structlog", "scrapy", "click", "zod", "hono", "axios"})
CAP_MB = {"python": 4.0}
DEFAULT_CAP_MB = 3.0  # breadth is worth more than depth
LARGE_PACKAGE_FILES = 200


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the corpus; files of one `package` are neighbours of each other."""

    package: str
    path: str
    text: str
    quality: float


@dataclass(frozen=True, slots=True)
class Taken:
    """What one package gave; becomes one line of ATTRIBUTION.md."""

    name: str
    version: str
    licence: str
    files: int
    bytes: int
    digest: str
    languages: dict[str, int]


class KnownTexts:
    """Texts that must not come again: those taken so far, and those held out for evaluation."""

    def __init__(self, held_out: Iterable[str]) -> None:
        texts = list(held_out)
        self._exact: set[bytes] = set()
        self._similar = SimilarTexts()
        self._shared = SharedRuns(texts)
        for text in texts:
            self._exact.add(_digest(text))
            if (found := signature(words(text))) is not None:
                self._similar.add(found)
        self._held_out_texts = len(self._similar)

    def admit(self, text: str) -> str | None:
        """Remember a new text; for one that is known already only say in which way."""
        digest = _digest(text)
        if digest in self._exact:
            return "duplicate"
        hashed_words = words(text)
        if self._shared.shared_by(hashed_words):
            return "held-out text inside"
        found = signature(hashed_words)
        if found is not None:
            nearest = self._similar.nearest(found)
            if nearest is not None:
                return "near-duplicate" if nearest >= self._held_out_texts else "like held-out text"
            self._similar.add(found)
        self._exact.add(digest)
        return None


def rows(package: Package, known: KnownTexts, dropped: Counter[str]) -> Iterator[tuple[str, Row]]:
    """The files of a package that are worth keeping, with their language, up to its cap a language."""
    taken: Counter[str] = Counter()
    files = {file.relative_to(package.root).as_posix(): file for file in package.files}
    # A fixed pseudo-random order, so that a cap takes a fair sample of a large package.
    for path in sorted(files, key=lambda p: hashlib.sha1(p.encode()).digest()):
        if corpus_filters.denied_path(path):
            dropped["path"] += 1
            continue
        try:
            file = corpus_filters.read(path, files[path].read_bytes())
        except OSError:
            file = None
        if file is None or file.language not in LANGUAGES:
            dropped["size or encoding"] += 1
            continue
        if taken[file.language] >= 1e6 * (
            package.cap_mb or CAP_MB.get(file.language, DEFAULT_CAP_MB)
        ):
            dropped["cap"] += 1
            continue
        reason = corpus_filters.refusal(file)
        text = "" if reason else corpus_filters.clean(file)
        if reason is None and len(text) < corpus_filters.MIN_BYTES:
            reason = "size or encoding"
        reason = reason or known.admit(text)
        if reason:
            dropped[reason] += 1
            continue
        taken[file.language] += len(text)
        quality = corpus_filters.quality(text)
        yield file.language, Row(neighbourhood(package, path), path, text, quality)


def neighbourhood(package: Package, path: str) -> str:
    """The name under which files count as neighbours: two folders deep in a large package."""
    if len(package.files) <= LARGE_PACKAGE_FILES:
        return package.name
    return "/".join([package.name, *path.split("/")[:-1][:2]])


def build(
    sources: Iterable[Package], held_out: Iterable[str], output: Path
) -> tuple[list[Taken], Counter[str]]:
    """Write the corpus; returns what each package gave and how many files each reason dropped."""
    known = KnownTexts(held_out)
    dropped: Counter[str] = Counter()
    every_taken = []
    with ExitStack() as stack:
        sinks = {
            language: stack.enter_context((output / f"{language}.jsonl").open("w"))
            for language in LANGUAGES
        }
        for package in sources:
            digest, sizes, files = hashlib.sha256(), Counter[str](), 0
            for language, row in rows(package, known, dropped):
                sinks[language].write(json.dumps(asdict(row)) + "\n")
                data = row.text.encode()
                digest.update(data)
                sizes[language] += len(data)
                files += 1
            if files:
                identity = (package.name, package.version, package.licence)
                every_taken.append(
                    Taken(*identity, files, sizes.total(), digest.hexdigest(), dict(sizes))
                )
    (output / "attribution.json").write_text(
        json.dumps([asdict(taken) for taken in every_taken], indent=1) + "\n"
    )
    return every_taken, dropped


def summary(
    every_taken: list[Taken], dropped: Counter[str], refusals: list[Refusal]
) -> dict[str, object]:
    """What `report.json` holds."""
    sizes: Counter[str] = Counter()
    for taken in every_taken:
        sizes.update(taken.languages)
    return {
        "packages": len(every_taken),
        "files": sum(taken.files for taken in every_taken),
        "megabytes": {language: round(sizes[language] / 1e6, 1) for language in LANGUAGES},
        "dropped_files": dict(dropped.most_common()),
        "refused_packages": {refusal.name: refusal.reason for refusal in refusals},
    }


def _digest(text: str) -> bytes:
    """Checksum that layout does not change."""
    return hashlib.sha256(re.sub(r"\s+", " ", text).strip().encode()).digest()


def _held_out_texts(folders: list[Path]) -> Iterator[str]:
    """Source text of the folders; of the evaluation's own repositories when none is given."""
    if not folders:
        for files in heldout.development().workspaces.values():
            yield from (file.text for file in files)
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix in SUFFIX_LANGUAGE and path.is_file():
                yield path.read_text(encoding="utf-8", errors="replace")


def main() -> None:
    """Command line: see the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--packages", type=Path, required=True, help="folder of corpus_fetch")
    parser.add_argument(
        "--held-out",
        type=Path,
        action="append",
        default=[],
        help="folder whose text is kept out; default: the repositories of the evaluation",
    )
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    refusals: list[Refusal] = []

    def refuse(refusal: Refusal) -> None:
        refusals.append(refusal)
        print(f"skipped {refusal.name}: {refusal.reason}", file=sys.stderr)

    try:
        entries, _ = read_manifest()
        found = packages(entries, args.packages, refuse)
        every_taken, dropped = build(found, _held_out_texts(args.held_out), args.output)
    except (ManifestError, heldout.HeldOutError) as error:
        raise SystemExit(str(error)) from None
    if not every_taken:
        raise SystemExit(
            f"{args.packages} holds no package of the manifest; fill it with qcoder.training.corpus_fetch"
        )
    report = summary(every_taken, dropped, refusals)
    (args.output / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    del report["refused_packages"]
    print(json.dumps(report))


if __name__ == "__main__":
    main()
