"""tiktoken gives exactly the ids of the library, or it is not used."""

from __future__ import annotations

import json
import random
import sysconfig
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend

from qcoder.model.fast_tokens import MAX_CHARS
from qcoder.model.registry import DEFAULT_FOLDER
from qcoder.model.tokenizer import Tokenizer

SEED = 5
NUM_FILES = 1000
MAX_BYTES = 12_000


@pytest.fixture(scope="module")
def spec() -> Any:
    return json.loads((DEFAULT_FOLDER / "tokenizer.json").read_bytes())


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(DEFAULT_FOLDER)


@pytest.fixture(scope="module")
def library() -> Callable[[str], list[int]]:
    backend = Backend.from_file(str(DEFAULT_FOLDER / "tokenizer.json"))
    backend.encode_special_tokens = True

    def encode(text: str) -> list[int]:
        ids: list[int] = backend.encode(text, add_special_tokens=False).ids
        return ids

    return encode


def test_ids_of_a_thousand_files_are_the_librarys(
    tokenizer: Tokenizer, library: Callable[[str], list[int]]
) -> None:
    assert tokenizer.is_fast
    root = Path(sysconfig.get_path("stdlib"))
    site = Path(sysconfig.get_path("purelib"))
    paths = sorted(
        path
        for folder in (root, site)
        for path in folder.rglob("*.py")
        if 0 < path.stat().st_size <= MAX_BYTES
    )
    random.Random(SEED).shuffle(paths)
    assert len(paths) >= NUM_FILES
    for path in paths[:NUM_FILES]:
        text = path.read_bytes().decode("utf-8", "replace")
        assert tokenizer.encode(text) == library(text), path


def test_special_tokens_in_text_are_the_same_characters(
    tokenizer: Tokenizer, library: Callable[[str], list[int]]
) -> None:
    assert tokenizer.special
    for name, token_id in tokenizer.special.items():
        for text in (name, f"x{name}y\n", name * 3, f" {name} "):
            ids = tokenizer.encode(text)
            assert token_id not in ids
            assert ids == library(text)


def test_every_kind_of_character_is_split_alike(
    tokenizer: Tokenizer, library: Callable[[str], list[int]]
) -> None:
    # All of the Latin, Greek and Cyrillic letters, and some of every category of the rest.
    rng = random.Random(SEED)
    by_kind: dict[str, list[str]] = {}
    for code in range(0x110000):
        by_kind.setdefault(unicodedata.category(chr(code)), []).append(chr(code))
    del by_kind["Cs"]
    chosen = [chr(code) for code in range(0x530)]
    for _, characters in sorted(by_kind.items()):
        chosen += rng.sample(characters, min(150, len(characters)))
    for char in chosen:
        text = f"a{char}b {char}1'{char}\n{char} {char}  {char}{char}!\n"
        assert tokenizer.encode(text) == library(text), hex(ord(char))


@pytest.mark.parametrize("piece", [" ", "\n", "a", "é", "!", "\t ", "_a"])
def test_long_runs_are_tokenized_alike(
    tokenizer: Tokenizer, library: Callable[[str], list[int]], piece: str
) -> None:
    for length in (4097, MAX_CHARS, MAX_CHARS + 1):
        text = "x" + piece * (length // len(piece)) + "y"
        assert tokenizer.encode(text) == library(text)


def change(spec: Any, where: tuple[str | int, ...], value: Any) -> Any:
    changed = json.loads(json.dumps(spec))
    inner = changed
    for step in where[:-1]:
        inner = inner[step]
    inner[where[-1]] = value
    return changed


def load(folder: Path, spec: Any) -> Tokenizer:
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    return Tokenizer.load(folder)


def test_other_ways_to_split_or_merge_are_left_to_the_library(tmp_path: Path, spec: Any) -> None:
    split = ("pre_tokenizer", "pretokenizers", 0)
    merges = spec["model"]["merges"]
    swapped = [*merges[:300], merges[301], merges[300], *merges[302:]]
    text = {"id": 8192, "content": "  x", "special": False, "single_word": False}
    text |= {"lstrip": False, "rstrip": False, "normalized": False}
    changes = [
        change(spec, ("normalizer",), {"type": "NFKC"}),
        change(spec, (*split, "pattern"), {"Regex": r"\w+|\W+"}),
        change(spec, (*split, "behavior"), "Removed"),
        change(spec, ("pre_tokenizer", "pretokenizers", 1, "add_prefix_space"), True),
        change(spec, ("model", "merges"), swapped),
        # The last token cannot be reached any more.
        change(spec, ("model", "merges"), merges[:-1]),
        change(spec, ("added_tokens",), [*spec["added_tokens"], text]),
    ]
    for changed in changes:
        assert not load(tmp_path, changed).is_fast


def test_a_normalizer_sees_all_text_that_it_may_change(tmp_path: Path, spec: Any) -> None:
    normalizing = load(tmp_path, change(spec, ("normalizer",), {"type": "NFC"}))
    assert normalizing.is_fast
    assert normalizing.encode("e\u0301") == normalizing.encode("\u00e9")
    assert normalizing.encode("x = 1\n") == Tokenizer.load(DEFAULT_FOLDER).encode("x = 1\n")
