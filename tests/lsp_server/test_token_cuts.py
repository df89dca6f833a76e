"""Prompts are put together from parts that are tokenized one by one: no token may cross a cut.

The real tokenizer, over files of the standard library that runs the tests. A prompt that a part
was cut from in the wrong place has other ids than its text, and a model never learned those.
"""

from __future__ import annotations

import random
import sysconfig
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend

from qcoder.context.index import Index
from qcoder.context.pack import pack, render
from qcoder.context.pieces import Piece, lines_piece, merge, symbol_piece
from qcoder.context.record import CHUNK_LINES, FileRecord, analyse
from qcoder.context.segments import Document, Level, PackedContext
from qcoder.lsp_server.prompts import fim_prompt
from qcoder.model.engine import FimOrder
from qcoder.model.registry import DEFAULT_FOLDER
from qcoder.model.tokenizer import Tokenizer

SEED = 11
NUM_FILES = 400
MAX_BYTES = 16_000
NUM_PROMPTS = 30
NUM_INDEXED = 60
REPOSITORY = "cpython"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(DEFAULT_FOLDER)


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Files of the standard library by their paths, seeded."""
    root = Path(sysconfig.get_path("stdlib"))
    paths = sorted(
        path
        for path in root.rglob("*.py")
        if "site-packages" not in path.parts and 0 < path.stat().st_size <= MAX_BYTES
    )
    random.Random(SEED).shuffle(paths)
    return {
        path.relative_to(root).as_posix(): path.read_bytes().decode("utf-8", "replace")
        for path in paths[:NUM_FILES]
    }


def pieces_of(record: FileRecord, text: str) -> dict[str, list[Piece]]:
    """A file as prompts show it: whole, in chunks, by signatures, with docs, by bodies."""
    starts = range(0, record.facts.lines, CHUNK_LINES)
    runs = [(0, record.facts.lines), *((at, at + CHUNK_LINES) for at in starts)]
    cut = [lines_piece(record.path, text, lines, "chunk", "", 0.0, "test") for lines in runs]
    bodies = [
        lines_piece(record.path, text, (s.start_line, s.end_line), s.kind, s.name, 0.0, "test")
        for s in record.facts.symbols
    ]
    found: dict[str, list[Piece]] = {
        "whole": [piece for piece in cut[:1] if piece],
        "chunks": [piece for piece in cut[1:] if piece],
        "bodies": [piece for piece in bodies if piece],
    }
    for level in (Level.SIGNATURE, Level.DOCSTRING):
        found[level.value] = [
            symbol_piece(record, symbol, level, 0.0, "test") for symbol in record.facts.symbols
        ]
    return {form: pieces for form, pieces in found.items() if pieces}


def test_pieces_of_a_segment_have_the_ids_of_the_whole(
    tokenizer: Tokenizer, texts: dict[str, str]
) -> None:
    checked = 0
    for path, text in texts.items():
        facts = analyse(text, "python", b"")
        for form, pieces in pieces_of(FileRecord(path, len(text), 0, facts), text).items():
            segment = merge(pieces, 0)
            ordered = sorted(pieces, key=lambda p: (p.span.start_byte, p.span.end_byte))
            parts = [path + "\n", *(piece.text for piece in ordered)]
            ids = [token for part in parts for token in tokenizer.encode(part)]
            assert ids == tokenizer.encode(render(segment)), (path, form)
            checked += len(pieces)
    assert len(texts) >= 300
    assert checked > 20 * len(texts)


def whole_text(packed: PackedContext, order: FimOrder) -> str:
    """The prompt as one text, with the special tokens spelled out."""
    window = packed.window
    parts = [f"<|file_sep|>{render(segment)}" for segment in packed.segments]
    parts.append(f"<|file_sep|>{window.path}\n<|fim_prefix|>")
    if order == "spm":
        parts.append(f"<|fim_suffix|>{window.suffix}<|fim_middle|>{window.prefix}")
    else:
        parts.insert(0, f"<|repo_name|>{REPOSITORY}\n" if packed.segments else "")
        parts.append(f"{window.prefix}<|fim_suffix|>{window.suffix}<|fim_middle|>")
    return "".join(parts)


@pytest.fixture(scope="module")
def index(texts: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Index:
    root = tmp_path_factory.mktemp("library")
    for path, text in list(texts.items())[:NUM_INDEXED]:
        if "<|" not in text:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(text.encode())
    index = Index.open(root, tmp_path_factory.mktemp("cache"))
    index.refresh()
    return index


@pytest.mark.parametrize("order", ["spm", "psm"])
@pytest.mark.parametrize("budget", [1024, 8192])
def test_ids_of_packed_parts_are_those_of_the_whole_prompt(
    tokenizer: Tokenizer, index: Index, order: FimOrder, budget: int
) -> None:
    # A tokenizer of its own that takes special tokens out of the text: ours never does.
    reading = Backend.from_file(str(DEFAULT_FOLDER / "tokenizer.json"))
    rng = random.Random(budget)
    segments = 0
    for path in rng.sample(index.paths(), min(NUM_PROMPTS, index.num_files())):
        text = index.text(path)
        assert text is not None
        # At the beginning of a line no unfinished word is taken back from the prompt.
        line = rng.randrange(text.count("\n") + 1)
        document = Document(f"file:///{path}", 1, "python", text)
        packed = pack(index, document, path, line, 0, budget, tokenizer.count)
        made = fim_prompt(packed, tokenizer, order, REPOSITORY)
        assert not made.healed
        expected = reading.encode(whole_text(packed, order), add_special_tokens=False).ids
        assert list(made.ids) == expected, path
        for span, segment in zip(made.spans, packed.segments, strict=True):
            assert span.end - span.start == segment.tokens + 1
        segments += len(packed.segments)
    assert segments > NUM_PROMPTS
