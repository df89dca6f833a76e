"""The build on small packages: what is written, what is dropped, what is attributed."""

import hashlib
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from qcoder.training import corpus, corpus_sources, heldout
from qcoder.training.corpus import HELD_OUT, KnownTexts, build, neighbourhood, summary
from qcoder.training.corpus_sources import LANGUAGES, Package, Refusal, read_manifest


def code(seed: int, functions: int = 12) -> str:
    """A Python module with its own names."""
    rng = random.Random(seed)
    parts = []
    for _ in range(functions):
        name, other = (f"name_{rng.randrange(10**6)}" for _ in range(2))
        parts.append(f"def {name}({other}):\n    total = {other} + {name}\n    return total\n")
    return "\n\n".join(parts)


def package(root: Path, name: str, files: dict[str, str], cap_mb: float = 0.0) -> Package:
    """A package with these files."""
    paths = []
    for path, text in files.items():
        file = root / name / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        paths.append(file)
    return Package(name, "1.0", "MIT", root / name, tuple(paths), cap_mb)


def written(output: Path, language: str = "python") -> list[dict[str, object]]:
    """Rows of one language."""
    return [json.loads(line) for line in (output / f"{language}.jsonl").read_text().splitlines()]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    return folder


def test_every_language_has_a_file_and_rows_have_four_fields(tmp_path: Path, output: Path) -> None:
    build([package(tmp_path, "walk", {"walk/a.py": code(1)})], [], output)
    assert {p.name for p in output.glob("*.jsonl")} == {f"{lang}.jsonl" for lang in LANGUAGES}
    (row,) = written(output)
    quality = row.pop("quality")
    assert isinstance(quality, float)
    assert row == {"package": "walk", "path": "walk/a.py", "text": code(1)}


def test_attribution_has_sizes_and_a_checksum_of_what_was_taken(
    tmp_path: Path, output: Path
) -> None:
    refused = package(tmp_path, "empty", {"tests/test_a.py": code(9)})
    taken = package(tmp_path, "walk", {"walk/a.py": code(1), "walk/test_a.py": code(2)})
    every_taken, dropped = build([refused, taken], [], output)
    (entry,) = json.loads((output / "attribution.json").read_text())
    assert entry == {
        "name": "walk",
        "version": "1.0",
        "licence": "MIT",
        "files": 1,
        "bytes": len(code(1)),
        "digest": hashlib.sha256(code(1).encode()).hexdigest(),
        "languages": {"python": len(code(1))},
    }
    assert dropped == Counter({"path": 2})
    report = summary(every_taken, dropped, [Refusal("bound", "licence 'GPL'")])
    assert report["packages"] == 1
    assert report["refused_packages"] == {"bound": "licence 'GPL'"}


def test_text_that_is_known_is_dropped_for_its_reason() -> None:
    held_out, near_held_out = code(1, 40), code(2, 40)
    known = KnownTexts([held_out, near_held_out])
    first = code(3, 40)
    assert known.admit(first) is None
    assert known.admit(first.replace("    ", "\t").replace("\n", "\n\n")) == "duplicate"
    assert known.admit(first + "\n\nlast = 1\n") == "near-duplicate"
    assert known.admit(held_out) == "duplicate"
    lines = held_out.split("\n")
    assert known.admit("\n".join(lines[:40]) + code(4, 40)) == "held-out text inside"
    # Every fourth line changed: no run of forty words is left, most runs of five are.
    changed = [
        line + " # x" if i % 24 == 0 else line for i, line in enumerate(near_held_out.split("\n"))
    ]
    assert known.admit("\n".join(changed)) in ("like held-out text", "held-out text inside")
    assert known.admit(code(5, 40)) is None


def test_known_text_of_one_package_is_not_taken_from_the_next(tmp_path: Path, output: Path) -> None:
    first = package(tmp_path, "first", {"a.py": code(1, 30)})
    second = package(tmp_path, "second", {"b.py": code(1, 30) + "\nlast = 1\n", "c.py": code(2)})
    _, dropped = build([first, second], [], output)
    assert [row["path"] for row in written(output)] == ["a.py", "c.py"]
    assert dropped == Counter({"near-duplicate": 1})


def test_package_gives_no_more_than_its_cap(tmp_path: Path, output: Path) -> None:
    files = {f"part{i}.py": code(i) for i in range(9)}
    size = len(code(0))
    build([package(tmp_path, "walk", files, cap_mb=3.5 * size / 1e6)], [], output)
    assert len(written(output)) == 4


def test_build_is_the_same_twice(tmp_path: Path, output: Path) -> None:
    source = package(tmp_path, "walk", {f"walk/part{i}.py": code(i) for i in range(5)})
    texts = []
    for _ in range(2):
        build([source], [], output)
        texts.append((output / "python.jsonl").read_bytes())
    assert texts[0] == texts[1]


def test_large_package_is_split_into_neighbourhoods(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk = package(tmp_path, "walk", {"lib/net/http/a.py": code(1), "setup.py": code(2)})
    assert neighbourhood(walk, "lib/net/http/a.py") == "walk"
    monkeypatch.setattr(corpus, "LARGE_PACKAGE_FILES", 1)
    assert neighbourhood(walk, "lib/net/http/a.py") == "walk/lib/net"
    assert neighbourhood(walk, "setup.py") == "walk"


def test_folder_without_packages_is_told_apart_from_an_empty_corpus(
    tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "packages.toml"
    path.write_text("[go.deb]\nwalk = '1'\n")
    monkeypatch.setattr(corpus_sources.read_manifest, "__defaults__", (path,))
    arguments = ["corpus", "--packages", str(tmp_path), "--held-out", str(output)]
    monkeypatch.setattr("sys.argv", [*arguments, "--output", str(output)])
    with pytest.raises(SystemExit, match="holds no package of the manifest"):
        corpus.main()


def test_packages_of_the_evaluation_are_excluded_by_name() -> None:
    entries, excluded = read_manifest()
    pinned = {name for row in heldout.DEVELOPMENT for name in row.packages}
    evaluated = HELD_OUT | {
        name.replace("==", "=").replace("@", "=").split("=")[0] for name in pinned
    }
    assert "zod" in evaluated
    assert set(excluded) >= evaluated
    assert not evaluated & {entry.name.lower() for entry in entries}
