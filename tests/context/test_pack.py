"""The packer never exceeds its budget, is deterministic, and puts the right things in."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from qcoder.context.index import Index
from qcoder.context.pack import SEGMENT_SLACK, WINDOW_SLACK, pack, render
from qcoder.context.segments import Document, Level, PackedContext
from qcoder.context.window import offset_of

_WORDS = re.compile(r"[^\W\d_]{1,4}|\d|\s+|[^\w\s]|_")


def count_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def count_words(text: str) -> int:
    """Like a subword tokenizer: runs of blanks join across lines."""
    return len(_WORDS.findall(text))


def count_pairs(text: str) -> int:
    """Half a token a character, rounded up: joining texts may cost less."""
    return (len(text) + 1) // 2


COUNTERS: dict[str, Callable[[str], int]] = {
    "bytes": count_bytes,
    "words": count_words,
    "pairs": count_pairs,
}


def make_project(root: Path, seed: int = 3, num_files: int = 24) -> None:
    rng = random.Random(seed)
    verbs = ["load", "save", "parse", "merge", "check", "build"]
    nouns = ["order", "user", "price", "basket", "token", "report"]
    for i in range(num_files):
        folder = root / rng.choice(["app", "lib/core", "tests"])
        folder.mkdir(parents=True, exist_ok=True)
        lines = ["import os", ""]
        for _ in range(rng.randint(1, 8)):
            verb, noun = rng.choice(verbs), rng.choice(nouns)
            lines += [
                f"def {verb}_{noun}_{i}({noun}, limit=10):",
                f'    """{verb.title()} one {noun}."""',
                f"    total = {noun}.amount * limit",
                f"    return {rng.choice(verbs)}_{noun}(total)",
                "",
            ]
        (folder / f"m{i}.py").write_text("\n".join(lines) + "\n")
    (root / "app").mkdir(exist_ok=True)
    (root / "app" / "service.py").write_text(
        'class Service:\n    """Sells things to people."""\n\n'
        "    def place_order(self, basket, user):\n"
        '        """Place the order of a user."""\n'
        "        return basket.total(user)\n\n"
        "    def _secret(self):\n        return 1\n\n\n"
        "def make_service(config):\n    return Service()\n"
    )
    (root / "app" / "main.py").write_text(
        "from app.service import Service, make_service\nfrom lib.core import nothing\n\n\n"
        "def main(config):\n    service = make_service(config)\n    service.\n"
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Index:
    root = tmp_path_factory.mktemp("project")
    make_project(root)
    index = Index.open(root, tmp_path_factory.mktemp("cache"))
    index.refresh()
    return index


def document_of(index: Index, path: str) -> Document:
    text = index.text(path)
    assert text is not None
    return Document(f"file:///{path}", 1, "python", text)


def prompt_of(packed: PackedContext) -> str:
    """The parts as a prompt puts them, without special tokens."""
    window = packed.window
    parts = [render(segment) for segment in packed.segments]
    return "".join([*parts, window.path + "\n", window.prefix, window.suffix])


def check(packed: PackedContext, budget: int, count: Callable[[str], int]) -> None:
    """What holds of every packed context."""
    window = packed.window
    assert packed.tokens <= budget
    slack = min(WINDOW_SLACK, budget // 8) + SEGMENT_SLACK * len(packed.segments)
    assert packed.tokens + slack <= budget or not packed.tokens
    assert count(prompt_of(packed)) <= budget or not packed.tokens
    for segment in packed.segments:
        assert segment.tokens == count(render(segment))
        assert segment.reason
        assert segment.segment.text.endswith("\n")
        assert segment.segment.span.start_line < segment.segment.span.end_line
    whole = [s.segment.sha for s in packed.segments if s.level is Level.BODY]
    assert len(whole) == len(set(whole))
    shown = count(window.path + "\n") + count(window.prefix) + count(window.suffix)
    assert window.tokens in (shown, 0)


@pytest.mark.parametrize("counter", COUNTERS)
@pytest.mark.parametrize("budget", [0, 1, 7, 64, 65, 127, 300, 1024, 2048, 5000, 20_000, 1_000_000])
def test_budget_is_never_exceeded(project: Index, budget: int, counter: str) -> None:
    rng = random.Random(budget)
    count = COUNTERS[counter]
    for path in rng.sample(project.paths(), 3):
        document = document_of(project, path)
        line = rng.randrange(document.text.count("\n") + 1)
        column = rng.choice([0, 4, 1000])
        recent = rng.sample(project.paths(), 2)
        packed = pack(project, document, path, line, column, budget, count, recent)
        check(packed, budget, count)
        again = pack(project, document, path, line, column, budget, count, recent)
        assert again == packed


@pytest.mark.parametrize("counter", COUNTERS)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "\n" * 500,
        "é" * 5000,
        "a b " * 4000,
        "x = 1\r\n" * 300,
        "\x0c\n" * 50,
        "  \n" * 400,
    ],
    ids=["empty", "one", "blank", "accents", "line", "crlf", "feeds", "spaces"],
)
def test_odd_documents_keep_the_budget_without_an_index(text: str, counter: str) -> None:
    count = COUNTERS[counter]
    document = Document("untitled:1", 1, "python", text)
    for budget in (3, 16, 64, 333, 4000):
        for line, column in ((0, 0), (0, 700), (30, 1), (10**6, 10**6)):
            packed = pack(None, document, "a/b.py", line, column, budget, count)
            check(packed, budget, count)
            offset = offset_of(text, line, column)
            assert text[:offset].endswith(packed.window.prefix)
            assert text[offset:].startswith(packed.window.suffix)


def test_window_is_cut_at_line_starts_and_prefers_the_prefix() -> None:
    text = "".join(f"value_{i} = {i}\n" for i in range(400))
    packed = pack(None, Document("u", 1, "python", text), "a.py", 200, 4, 512, count_words)
    window = packed.window
    assert window.prefix.startswith("value_")
    assert text[text.index(window.prefix) - 1] == "\n"
    assert window.prefix.endswith("valu")
    assert window.suffix.startswith("e_200 = 200\n")
    assert window.suffix.endswith("\n")
    assert len(window.prefix) > 2 * len(window.suffix)
    assert packed.tokens >= 0.85 * 512


def test_short_prefix_leaves_its_room_to_the_suffix() -> None:
    text = "".join(f"value_{i} = {i}\n" for i in range(400))
    packed = pack(None, Document("u", 1, "python", text), "a.py", 0, 0, 512, count_words)
    assert packed.window.prefix == ""
    assert packed.window.tokens >= 0.85 * 512


def test_whole_small_file_is_shown() -> None:
    text = "a = 1\nb = 2\n"
    window = pack(None, Document("u", 1, "python", text), "a.py", 1, 0, 64, count_words).window
    assert window.prefix + window.suffix == text


def test_offset_knows_every_line_end() -> None:
    text = "a\r\nb\rc\n\x0cd"
    cases = {(0, 1): 1, (0, 9): 1, (1, 0): 3, (2, 0): 5, (3, 1): 8, (9, 0): 9, (0, -1): 0}
    assert {at: offset_of(text, *at) for at in cases} == cases


def texts(packed: PackedContext) -> str:
    return "".join(render(segment) for segment in packed.segments)


def test_imported_definitions_come_with_their_methods(project: Index) -> None:
    packed = pack(
        project, document_of(project, "app/main.py"), "app/main.py", 6, 12, 400, count_words
    )
    service = next(s for s in packed.segments if s.segment.path == "app/service.py")
    assert service.reason == "after the dot"
    for expected in ("class Service:", "def place_order(self, basket, user)", "def make_service"):
        assert expected in service.segment.text


def test_stable_part_is_in_path_order_and_similar_code_comes_last(project: Index) -> None:
    path = next(p for p in project.paths() if p.startswith("lib/core/"))
    document = document_of(project, path)
    packed = pack(project, document, path, 10, 0, 1500, count_words)
    kinds = ["chunk" if s.segment.kind == "chunk" else "definitions" for s in packed.segments]
    assert kinds == sorted(kinds, key=["definitions", "chunk"].index)
    assert "chunk" in kinds
    stable = [s.segment.path for s in packed.segments if s.segment.kind != "chunk"]
    assert stable == sorted(stable)


def test_own_window_is_never_repeated(project: Index) -> None:
    for path in project.paths():
        document = document_of(project, path)
        packed = pack(project, document, path, 3, 0, 4000, count_words, project.paths()[:3])
        for segment in packed.segments:
            if segment.segment.path == path:
                lines = [line for line in segment.segment.text.splitlines() if line.strip()]
                window = (packed.window.prefix + packed.window.suffix).splitlines()
                assert not set(lines) <= set(window)


def test_definitions_outside_the_window_of_the_same_file_are_found(tmp_path: Path) -> None:
    filler = "".join(f"filler_{i} = {i}\n" for i in range(600))
    text = (
        "class Big:\n    def helper_far_away(self, first, second):\n        return first\n\n"
        f"{filler}\n\ndef use(big):\n    big.helper_far_away(\n"
    )
    document = Document("u", 1, "python", text)
    line = text.count("\n") - 1
    packed = pack(None, document, "a.py", line, 24, 400, count_words)
    assert "def helper_far_away(self, first, second)" in texts(packed)
    assert "helper_far_away" in packed.window.prefix


def test_recent_files_are_preferred(tmp_path: Path) -> None:
    body = (
        "def handle(request):\n    session = open_session(request)\n    return session.render()\n"
    )
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.py").write_text(f"# {name}\n{body}")
    index = Index.open(tmp_path, tmp_path / "cache")
    index.refresh()
    query = "def other(request):\n    session = open_session(request)\n    return "
    document = Document("u", 1, "python", query)
    for recent in ("a.py", "b.py", "c.py"):
        packed = pack(index, document, "new.py", 2, 11, 300, count_words, [recent])
        assert packed.segments[-1].segment.path == recent
        assert packed.segments[-1].reason == "recent file"


def test_equal_contents_are_shown_once(tmp_path: Path) -> None:
    text = "def handle(request):\n    return open_session(request)\n"
    for i in range(5):
        (tmp_path / f"copy{i}.py").write_text(text)
    index = Index.open(tmp_path, tmp_path / "cache")
    index.refresh()
    document = Document("u", 1, "python", "def x(request):\n    open_session(request)\n    ")
    packed = pack(index, document, "new.py", 2, 4, 4000, count_words)
    bodies = [s for s in packed.segments if s.level is Level.BODY]
    assert len(bodies) == 1


def test_large_budget_takes_whole_files(project: Index) -> None:
    path = "app/main.py"
    packed = pack(project, document_of(project, path), path, 6, 12, 1_000_000, count_words)
    shown = {s.segment.path for s in packed.segments if s.segment.kind == "file"}
    assert len(shown | {path}) >= 0.9 * len(project.paths())


def test_file_that_changed_on_disk_is_not_cut_at_old_places(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def open_session(request):\n    return request\n" * 3)
    index = Index.open(tmp_path, tmp_path / "cache")
    index.refresh()
    (tmp_path / "a.py").write_text("everything_else = 1\n")
    document = Document("u", 1, "python", "def x(request):\n    open_session(request)\n    ")
    packed = pack(index, document, "new.py", 2, 4, 2000, count_words)
    assert all(s.level is not Level.BODY for s in packed.segments)


def test_signature_levels_grow_with_the_budget(project: Index) -> None:
    path = "app/main.py"
    document = document_of(project, path)
    small = pack(project, document, path, 6, 12, 130, count_words)
    large = pack(project, document, path, 6, 12, 1200, count_words)
    assert "class Service:" in texts(small)
    assert "return basket.total(user)" not in texts(small)
    assert "return basket.total(user)" in texts(large)
