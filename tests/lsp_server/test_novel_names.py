import pytest

from qcoder.lsp_server.around import Around
from qcoder.lsp_server.novel_names import has, language_words, novel_names


@pytest.mark.parametrize(
    ("source", "text", "novel"),
    [
        ("x = ‸\n", "compute(len(x))", ("compute",)),
        ("def compute(): ...\nx = ‸\n", "compute()", ()),
        ("x = ‸\n", "packed_name()", ()),
        ("x = com‸\ny = compute\n", "pute()", ()),
        ("‸\n", "fresh = 1\nfresh + other", ("other",)),
        ("‸\n", "for entry in range(3): print(entry)", ()),
        ("x = ‸\n", "'some text' # more words", ()),
        ("precompute = 1\nx = ‸\n", "compute", ("compute",)),
        ("x = ‸\n", "", ()),
        ("x = ‸\n", "None if True else not_there", ("not_there",)),
    ],
)
def test_names_are_new_when_nothing_around_has_them(
    source: str, text: str, novel: tuple[str, ...]
) -> None:
    prefix, suffix = source.split("‸")
    around = Around(prefix, suffix, "python")
    assert novel_names(text, around, ["def packed_name(): ..."]) == novel


@pytest.mark.parametrize(
    ("language", "word"),
    [("go", "func"), ("rust", "impl"), ("typescript", "interface"), ("c", "while")],
)
def test_keywords_come_from_the_grammar(language: str, word: str) -> None:
    assert word in language_words(language)
    assert "compute" not in language_words(language)


def test_a_language_without_grammar_has_no_words() -> None:
    assert language_words("text") == frozenset()


def test_a_word_is_found_whole() -> None:
    assert has("a compute(b)", "compute")
    assert has("compute", "compute")
    assert not has("precompute computed _compute compute_", "compute")
