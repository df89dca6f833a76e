"""Every row of the language table parses its sample and yields the expected definitions."""

from __future__ import annotations

import pytest
from language_samples import CASES

from qcoder.context.languages import LANGUAGES, grammar, language_of, query
from qcoder.context.parse import error_count, parse, syntax


def test_every_language_has_a_case() -> None:
    assert CASES.keys() == LANGUAGES.keys()


@pytest.mark.parametrize("language", LANGUAGES)
def test_sample_gives_the_expected_outline(language: str) -> None:
    sample, expected, docs, num_imports = CASES[language]
    tree = parse(sample, language)
    assert tree is not None
    assert error_count(tree) == 0
    found = syntax(sample, language)
    assert [(d.kind, d.qualified_name) for d in found.definitions] == expected
    by_name = {d.name: d for d in reversed(found.definitions)}
    for name, doc in docs.items():
        if doc is not None:
            assert by_name[name].docstring is not None, name
            assert by_name[name].docstring.splitlines()[0] == doc
    assert len(found.imports) == num_imports


@pytest.mark.parametrize("language", LANGUAGES)
def test_spans_and_signatures_lie_in_the_text(language: str) -> None:
    sample = CASES[language][0]
    data = sample.encode()
    for definition in syntax(sample, language).definitions:
        span = definition.span
        shown = data[span.start_byte : span.end_byte].decode()
        assert definition.name in shown
        assert definition.signature.splitlines()[-1].strip() in shown
        assert span.start_line <= definition.line < span.end_line
        assert span.start_line == data.count(b"\n", 0, span.start_byte)
        if definition.body_span is not None:
            assert span.start_byte < definition.body_span.start_byte
            assert definition.body_span.end_byte <= span.end_byte


@pytest.mark.parametrize("language", LANGUAGES)
def test_grammar_and_query_load(language: str) -> None:
    assert grammar(language) is not None
    assert query(language) is not None


def test_language_follows_name_then_suffix() -> None:
    cases = {
        "a/b.py": "python",
        "a/B.PY": "python",
        "x.tsx": "typescriptreact",
        "x.h": "c",
        "x.hpp": "cpp",
        "Rakefile": "ruby",
        "Makefile": "makefile",
        "README.md": "markdown",
        "a\\b.rs": "rust",
        "LICENSE": "text",
        "x.unknown": "text",
        ".gitignore": "text",
    }
    assert {path: language_of(path) for path in cases} == cases


@pytest.mark.parametrize(
    ("path", "text", "language"),
    [
        ("x.h", "#include <stdio.h>\nint f(void);\n/* a class of things */\n", "c"),
        ("x.h", '#ifdef __cplusplus\nextern "C" {\n#endif\nstruct s;\n', "c"),
        ("x.h", "#pragma once\n#include <vector>\n", "cpp"),
        ("x.h", "  namespace a {\n}", "cpp"),
        ("x.h", "class A final {\n public:\n};\n", "cpp"),
        ("x.hpp", "", "cpp"),
        ("bin/run", "#!/usr/bin/env python3\nimport os\n", "python"),
        ("bin/run", "#!/bin/sh\nexec x\n", "shellscript"),
        ("bin/run", "no script", "text"),
        ("run.txt", "#!/bin/sh\n", "text"),
    ],
)
def test_content_decides_where_the_name_does_not(path: str, text: str, language: str) -> None:
    assert language_of(path, text) == language


def test_language_without_grammar_gives_nothing() -> None:
    assert parse("\\section{a}\n", "latex") is None
    assert syntax("\\section{a}\n", "latex").definitions == ()


def test_outline_of_a_generated_data_file_is_left_out() -> None:
    rows = ",\n".join(f'"key_{i}": {i}' for i in range(20_000))
    assert syntax("{" + rows + "}", "json").definitions == ()
