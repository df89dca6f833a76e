from types import SimpleNamespace

import pytest

from qcoder.context.segments import (
    CursorWindow,
    Level,
    PackedContext,
    PackedSegment,
    Segment,
    Span,
)
from qcoder.lsp_server.headless import file_table
from qcoder.lsp_server.prompts import FIM_TOKENS, already_present, fim_prompt
from qcoder.model.engine import Engine, FimOrder
from qcoder.model.errors import CheckpointError
from qcoder.model.fake import ByteTokenizer
from qcoder.model.request import GenerationRequest, Prompt

SEGMENT = Segment("b.py", Span(0, 6, 0, 1), "function", "g", "def g()\n")
WINDOW = CursorWindow("a.py", "python", "x = ", "\ny", 10)
TOKENIZER = ByteTokenizer()


def prompt(order: FimOrder, window: CursorWindow = WINDOW) -> Prompt:
    packed = PackedContext((PackedSegment(SEGMENT, Level.BODY, 9, "called"),), window, 100)
    return fim_prompt(packed, TOKENIZER, order, "repo")  # type: ignore[arg-type]


def shown(ids: tuple[int, ...]) -> str:
    """Text of a prompt with its special tokens spelled out."""
    names = {i: name for name, i in TOKENIZER.special.items()}
    return "".join(names[i] if i in names else TOKENIZER.decode([i]) for i in ids)


def test_suffix_comes_first_for_the_default_model() -> None:
    assert shown(prompt("spm").ids) == (
        "<|file_sep|>b.py\ndef g()\n<|file_sep|>a.py\n"
        "<|fim_prefix|><|fim_suffix|>\ny<|fim_middle|>x ="
    )
    assert prompt("spm").healed == b" "


def test_prefix_comes_first_for_qwen_and_the_repository_is_named() -> None:
    assert shown(prompt("psm").ids) == (
        "<|repo_name|>repo\n<|file_sep|>b.py\ndef g()\n<|file_sep|>a.py\n"
        "<|fim_prefix|>x =<|fim_suffix|>\ny<|fim_middle|>"
    )


def test_spans_cover_exactly_their_segment() -> None:
    made = prompt("psm")
    (span,) = made.spans
    assert shown(made.ids[span.start : span.end]) == "<|file_sep|>b.py\ndef g()\n"
    assert span.key == SEGMENT.sha


def test_a_model_without_the_tokens_is_refused_by_their_names() -> None:
    special = {name: i for i, name in enumerate(FIM_TOKENS) if "suffix" not in name}
    chat, packed = SimpleNamespace(special=special), PackedContext((), WINDOW, 100)
    with pytest.raises(CheckpointError, match=r"no <\|fim_suffix\|>: .* choose a coder model"):
        fim_prompt(packed, chat, "psm")  # type: ignore[arg-type]


def test_special_tokens_in_user_text_stay_characters() -> None:
    window = CursorWindow("<|file_sep|>", "python", "<|fim_middle|>", "<|endoftext|>", 10)
    ids = prompt("spm", window).ids
    special = [i for i in ids if i >= 256]
    names = ("file_sep", "file_sep", "fim_prefix", "fim_suffix", "fim_middle")
    assert special == [TOKENIZER.special[f"<|{name}|>"] for name in names]


def test_a_longer_prefix_only_lengthens_the_prompt() -> None:
    longer = CursorWindow("a.py", "python", "x = 12", "\ny", 12)
    before, after = prompt("spm").ids, prompt("spm", longer).ids
    assert after[: len(before)] == before


class Pieces:
    """Tokens are the given pieces."""

    def __init__(self, pieces: list[str]) -> None:
        self._pieces = pieces

    def token_bytes(self, token_id: int) -> bytes:
        return self._pieces[token_id].encode()

    def encode(self, text: str) -> list[int]:
        ids = []
        while text:
            at = max((i for i, p in enumerate(self._pieces) if text.startswith(p)), default=0)
            ids.append(at)
            text = text[len(self._pieces[at]) :]
        return ids


def test_what_the_document_has_at_the_cursor_is_told_to_the_engine() -> None:
    pieces = ["\n", "x", " pat", "h"]
    tokenizer = Pieces(pieces)
    ways = already_present([2], [0, 1], b" pat", "\nx", tokenizer)  # type: ignore[arg-type]
    assert {(2, 0, 1), (0, 1)} <= set(ways)
    assert prompt("spm").present


def test_at_the_end_of_a_file_the_unfinished_word_itself_is_already_there() -> None:
    pieces = ["self", ".", "a", ".a", "dd", ".add"]
    tokenizer = Pieces(pieces)
    ways = already_present([3], [], b".a", "", tokenizer)  # type: ignore[arg-type]
    assert (3,) in ways
    assert () not in ways
    assert already_present([], [], b"", "", tokenizer) == ()  # type: ignore[arg-type]


def test_a_word_is_completed_at_the_end_of_a_file_that_the_copy_model_has_read() -> None:
    """Its own beginning there is no hint that nothing follows."""
    engine = Engine.load("default")
    text = "".join(
        f"def take_{n}(shelf, item):\n    shelf.remove(item)\n    shelf.update(item)\n\n\n"
        for n in range(3)
    )
    text += "def take_last(shelf, item):\n    shelf.remove(item)\n    shelf.up"
    table = file_table(text, engine.tokenizer)
    window = CursorWindow("a.py", "python", text, "", 10)
    wanted = fim_prompt(PackedContext((), window, 600), engine.tokenizer, "spm")
    request = GenerationRequest(wanted, 4, copy_tables=(table,))
    outs = list(engine.generate(request))
    assert "".join(out.text for out in outs).startswith("date(item)")
    assert outs[0].text  # one token, as the line above has it, and not its beginning alone


@pytest.mark.parametrize(
    ("before", "indented"),
    [
        ("def f():\n    ", True),
        ("def f():\n", False),
        ("class A:\n    def f():\n    ", False),
        ("class A:\n    def f():\n        ", True),
        ("class A:\n    x = 1\n\n    ", True),
        ("if a:\n    b()\n    x = ", False),
        ("function f() {\n\t", True),
        ("    ", True),
        ("", False),
    ],
)
def test_it_is_told_where_a_line_is_indented_already(before: str, indented: bool) -> None:
    window = CursorWindow("a.py", "python", before, "\n", 9)
    assert prompt("spm", window).indented == indented
