"""The manifest, and what each kind of package says about itself."""

import json
from pathlib import Path

import pytest

from qcoder.training.corpus_sources import (
    LANGUAGES,
    Entry,
    ManifestError,
    Package,
    Refusal,
    find,
    packages,
    read_manifest,
)

COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
License: {licence}

Files: debian/*
License: GPL-2+
"""


def write(root: Path, files: dict[str, str]) -> None:
    """Lay files below a folder."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names(package: Package | Refusal) -> list[str]:
    """Paths of a found package's files, relative to its root."""
    assert isinstance(package, Package)
    return [file.relative_to(package.root).as_posix() for file in package.files]


def test_committed_manifest_can_be_read() -> None:
    entries, excluded = read_manifest()
    assert {entry.language for entry in entries} == set(LANGUAGES)
    assert {"gin", "arrow", "click"} - set(excluded) == {"gin"}
    assert all(excluded.values())
    assert len({(e.language, e.kind, e.name) for e in entries}) == len(entries)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[cobol.pip]\nx = '1'", "cobol"),
        ("[python.ftp]\nx = '1'", "python.ftp"),
        ("[python.pip]\nx = '1'\n[excluded]\nx = 'copyleft'", "x is listed and excluded"),
        ("[python.pip]\nx = { version = '1', colour = 'red' }", "colour"),
        ("[python.pip\n", "manifest.toml"),
    ],
)
def test_manifest_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "manifest.toml"
    path.write_text(text)
    with pytest.raises(ManifestError, match=message):
        read_manifest(path)


@pytest.mark.parametrize("licence", ["License-Expression: MIT", "License: MIT License", ""])
def test_wheel_is_taken_only_with_a_licence(tmp_path: Path, licence: str) -> None:
    meta = f"Metadata-Version: 2.1\nName: walk\nVersion: 1.0\n{licence}\n"
    write(
        tmp_path / "pip/walk",
        {"walk-1.0.dist-info/METADATA": meta, "walk/a.py": "x = 1\n", "walk/b.h": "int x;\n"},
    )
    found = find(Entry("python", "pip", "walk", "1.0"), tmp_path)
    if licence:
        assert names(found) == ["walk/a.py"]
    else:
        assert found == Refusal("walk", "licence ''")


def test_copyleft_wheel_is_refused_whatever_else_it_says(tmp_path: Path) -> None:
    classifiers = (
        "Classifier: License :: OSI Approved :: MIT License\n"
        "Classifier: License :: OSI Approved :: GNU General Public License (GPL)\n"
    )
    meta = f"Metadata-Version: 2.1\nName: walk\nVersion: 1.0\n{classifiers}"
    write(tmp_path / "pip/walk", {"walk-1.0.dist-info/METADATA": meta, "walk/a.py": "x = 1\n"})
    assert isinstance(find(Entry("python", "pip", "walk", "1.0"), tmp_path), Refusal)


def test_debian_package_needs_permissive_licences_of_its_sources(tmp_path: Path) -> None:
    source = "usr/share/gocode/src/example.org/walk"
    for name, licence in (("free", "Expat"), ("bound", "MPL-2.0")):
        write(
            tmp_path / "deb" / name,
            {
                f"{source}/walk.go": "package walk\n",
                f"{source}/inner/walk.go": "package inner\n",
                f"usr/share/doc/{name}/copyright": COPYRIGHT.format(licence=licence),
                f"usr/share/doc/{name}/examples/main.go": "package main\n",
            },
        )
    assert names(find(Entry("go", "deb", "free", "1"), tmp_path)) == ["walk.go", "inner/walk.go"]
    assert find(Entry("go", "deb", "bound", "1"), tmp_path) == Refusal("bound", "licence 'MPL-2.0'")


def test_reviewed_entry_is_limited_to_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "deb/walk", {"usr/src/a.rs": "fn a() {}\n", "usr/other/b.rs": "fn b() {}\n"})
    entry = Entry("rust", "deb", "walk", "1", licence="MIT OR Apache-2.0", folder="usr/src")
    assert names(find(entry, tmp_path)) == ["src/a.rs"]


def test_npm_package_with_typescript_sources_gives_no_compiled_javascript(tmp_path: Path) -> None:
    sources = {f"src/part{i}.ts": "export {}\n" for i in range(5)}
    compiled = {f"dist/part{i}.js": "export {}\n" for i in range(5)}
    nested = {"node_modules/other/index.js": "module.exports = 1\n"}
    manifest = {"package.json": json.dumps({"version": "2.0", "license": "MIT"})}
    write(tmp_path / "npm/@scope/both", {**sources, **compiled, **nested, **manifest})
    write(tmp_path / "npm/plain", {**compiled, **nested, **manifest})
    both = find(Entry("javascript", "npm", "@scope/both", "2.0"), tmp_path)
    plain = find(Entry("javascript", "npm", "plain", "2.0"), tmp_path)
    assert names(both) == sorted(sources)
    assert names(plain) == sorted(compiled)


def test_missing_package_is_reported_and_the_others_are_found(tmp_path: Path) -> None:
    manifest = json.dumps({"version": "1", "license": "ISC"})
    write(tmp_path / "npm/here", {"index.js": "let x\n", "package.json": manifest})
    entries = [Entry("javascript", "npm", name, "1") for name in ("gone", "here")]
    refusals: list[Refusal] = []
    assert [p.name for p in packages(entries, tmp_path, refusals.append)] == ["here"]
    assert refusals == [Refusal("gone", "not fetched")]


def test_standard_library_is_found_without_site_packages() -> None:
    entry = Entry("python", "stdlib", "cpython", "3.11", licence="PSF-2.0")
    found = names(find(entry, Path("/nowhere")))
    assert "dataclasses.py" in found
    assert not any("site-packages" in name for name in found)
