"""A small corpus and its tokenizer, for all tests of the training."""

import json
from pathlib import Path

import pytest

from qcoder.training.items import Corpus
from qcoder.training.tokenizer import train as train_tokenizer

SOURCE = '''"""Adds numbers."""
import math


def add(first: int, second: int) -> int:
    """Sum of two numbers."""
    return first + second


class Adder:
    def __init__(self, start: int) -> None:
        self.total = start

    def push(self, value: int) -> None:
        self.total = add(self.total, value)
'''


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for language in ("python", "typescript", "javascript", "go", "rust", "c", "cpp"):
        rows = [
            {"package": "p", "path": f"p/{i}.x", "text": SOURCE.replace("add", f"add_{i}")}
            for i in range(4)
        ]
        (folder / f"{language}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (folder / "attribution.json").write_text("[]")
    return folder


@pytest.fixture(scope="session")
def tokenizer_file(corpus_folder: Path) -> Path:
    path = corpus_folder / "tokenizer.json"
    train_tokenizer(Corpus(corpus_folder), 400, megabytes=1).save(str(path))
    return path


@pytest.fixture(scope="session")
def source_text() -> str:
    return SOURCE
