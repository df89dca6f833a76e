from pathlib import Path
from typing import Any

import pytest

from qcoder.context.privacy import exclude_spec, refused
from qcoder.lsp_server.settings import (
    CompletionSettings,
    ModelSettings,
    PrivacySettings,
    ReviewSettings,
    Settings,
    load_toml,
    parse_settings,
    resolve_settings,
)


def check(data: dict[str, Any], expected: Settings, *reported: str, trusted: bool = True) -> None:
    """`data` gives `expected`, and one problem naming each of `reported`, no more."""
    settings, problems = parse_settings(data, Settings(), "here", trusted)
    assert settings == expected
    assert len(problems) == len(reported), problems
    for problem, word in zip(problems, reported, strict=True):
        assert problem.startswith("here: ")
        assert word in problem


FEWER = Settings(completion=CompletionSettings(max_tokens=8))


@pytest.mark.parametrize(
    "data",
    [
        {"completion": {"max_tokens": 8}},
        {"completion": {"maxTokens": 8}},
        {"completion.maxTokens": 8},
        {"qcoder": {"completion": {"max-tokens": 8}}},
        {"qcoder.completion.max_tokens": 8},
        {"completion": {"maxTokens": 8, "debounceMs": None}},
        {"completion": {"max_tokens": 8.0}},
    ],
)
def test_every_spelling_of_a_key_means_the_same_option(data: dict[str, Any]) -> None:
    check(data, FEWER)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ({"completion": {"max_tokens": "8"}}, "whole number"),
        ({"completion": {"max_tokens": True}}, "whole number"),
        ({"completion": {"max_tokens": 0}}, "from 1 to"),
        ({"completion": {"min_confidence": 1.5}}, "from 0.0 to 1.0"),
        ({"completion": {"enabled": 1}}, "true or false"),
        ({"completion": {"multiline": "sometimes"}}, "'always'"),
        ({"completion": {"max_tokns": 8}}, "did you mean 'max_tokens'"),
        ({"completion": 3}, "table of options"),
        ({"privacy": {"exclude": "*.pem"}}, "list of strings"),
        ({"privacy": {"exclude": [1]}}, "list of strings"),
        ({"model": {"name": ["a"]}}, "a string"),
        ({"nonsense": 1}, "unknown option 'nonsense'"),
    ],
)
def test_a_bad_option_costs_that_option_and_is_reported(data: dict[str, Any], word: str) -> None:
    good = {"review": {"max_hints": 2}}
    check({**data, **good}, Settings(review=ReviewSettings(max_hints=2)), word)


def test_a_whole_number_is_a_valid_float() -> None:
    check({"completion": {"min_confidence": 1}}, Settings(CompletionSettings(min_confidence=1.0)))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"completion": {"max_tokens": 8}}, FEWER),
        ({"completion": {"enabled": False}}, Settings(CompletionSettings(enabled=False))),
        ({"completion": {"multiline": "never"}}, Settings(CompletionSettings(multiline="never"))),
        ({"completion": {"budget_tokens": 512}}, Settings(CompletionSettings(budget_tokens=512))),
        ({"completion": {"debounce_ms": 500}}, Settings(CompletionSettings(debounce_ms=500))),
        ({"privacy": {"exclude": ["*.pem"]}}, Settings(privacy=PrivacySettings(("*.pem",)))),
        ({"review": {"max_hints": 0}}, Settings(review=ReviewSettings(max_hints=0))),
    ],
)
def test_an_untrusted_workspace_may_tighten(data: dict[str, Any], expected: Settings) -> None:
    check(data, expected, trusted=False)


@pytest.mark.parametrize(
    "data",
    [
        {"model": {"name": "/tmp/evil"}},
        {"model": {"device": "cuda"}},
        {"model": {"threads": 64}},
        {"completion": {"max_tokens": 4096}},
        {"completion": {"multiline": "always"}},
        {"completion": {"min_confidence": 0.0}},
        {"completion": {"budget_tokens": 100_000}},
        {"completion": {"debounce_ms": 0}},
    ],
)
def test_an_untrusted_workspace_may_not_loosen(data: dict[str, Any]) -> None:
    check(data, Settings(), "untrusted workspace", trusted=False)
    assert parse_settings(data, Settings(), "here", trusted=True)[0] != Settings()


def test_an_untrusted_workspace_cannot_switch_a_feature_back_on() -> None:
    off = Settings(completion=CompletionSettings(enabled=False))
    settings, problems = parse_settings({"completion": {"enabled": True}}, off, "ws", False)
    assert settings == off
    assert len(problems) == 1


@pytest.mark.parametrize(
    ("base", "data"),
    [
        (Settings(review=ReviewSettings(max_hints=0)), {"review": {"max_hints": 1000}}),
        (
            Settings(completion=CompletionSettings(budget_tokens=512)),
            {"completion": {"budget_tokens": 0}},
        ),
    ],
)
def test_zero_means_none_of_hints_and_no_limit_of_the_prompt(
    base: Settings, data: dict[str, Any]
) -> None:
    settings, problems = parse_settings(data, base, "ws", False)
    assert settings == base
    assert len(problems) == 1


def test_an_untrusted_workspace_takes_no_excluded_file_back() -> None:
    mine = PrivacySettings(("customers/**", "*.sql", "!schema.sql"))
    data = {"privacy": {"exclude": ["!customers/**", "!*.sql", "logs/"]}}
    settings, problems = parse_settings(data, Settings(privacy=mine), "ws", False)
    assert settings.privacy.exclude == (*mine.exclude, "logs/")
    spec = exclude_spec(settings.privacy.exclude)
    assert refused("customers/a.py", None, spec) is not None
    assert refused("dump.sql", None, spec) is not None
    assert ["'!customers/**'" in problems[0], "'!*.sql'" in problems[1]] == [True, True]
    assert len(problems) == 2
    trusted, problems = parse_settings(data, Settings(privacy=mine), "ws", True)
    assert trusted.privacy.exclude == ("!customers/**", "!*.sql", "logs/")
    assert not problems


@pytest.mark.parametrize("pattern", ["customers\\", "!", "[z-a]"])
@pytest.mark.parametrize("trusted", [True, False])
def test_an_exclude_pattern_that_cannot_be_used_costs_itself(pattern: str, trusted: bool) -> None:
    data = {"privacy": {"exclude": ["*.sql", pattern, "logs/"]}}
    kept = Settings(privacy=PrivacySettings(("*.sql", "logs/")))
    check(data, kept, repr(pattern), trusted=trusted)
    assert exclude_spec(kept.privacy.exclude) is not None


def test_a_workspace_adds_to_the_excluded_files_of_the_user() -> None:
    base = Settings(privacy=PrivacySettings(("*.key",)))
    data = {"privacy": {"exclude": ["*.key", "*.pem"]}}
    assert parse_settings(data, base, "ws", False)[0].privacy.exclude == ("*.key", "*.pem")


def test_editor_options_win_over_the_file_and_the_workspace_tightens_last(tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text('[completion]\nmax_tokens = 10\nmin_chars = 5\n[model]\nname = "mine"\n')
    root = tmp_path / "root"
    root.mkdir()
    (root / "qcoder.toml").write_text(
        '[completion]\nmax_tokens = 12\n[model]\nname = "evil"\n[privacy]\nexclude = ["secret/"]\n'
    )
    settings, problems = resolve_settings(config, {"completion": {"maxTokens": 20}}, [root])
    assert settings.completion == CompletionSettings(max_tokens=12, min_chars=5)
    assert settings.model == ModelSettings(name="mine")
    assert settings.privacy.exclude == ("secret/",)
    assert len(problems) == 1
    assert str(root) in problems[0]
    assert "'model.name'" in problems[0]


@pytest.mark.parametrize(
    "content",
    [
        b"completion = [",
        b"\xff\xfe broken",
        b"a = " + b"[" * 5000,
        b"a = " + b"9" * 5000,
        None,
    ],
    ids=["no end", "no UTF-8", "deep", "endless", "missing"],
)
def test_a_broken_file_is_one_problem(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "qcoder.toml"
    if content is not None:
        path.write_bytes(content)
    data, problems = load_toml(path)
    assert data == {}
    assert len(problems) == 1
    assert str(path) in problems[0]


@pytest.mark.parametrize(
    "content",
    [
        "review.on_save" + ".a" * 3000 + " = 1",
        "privacy = 0x" + "f" * 5000,
        "completion.min_confidence = 0x" + "f" * 5000,
        "completion.max_tokens = 0x" + "f" * 5000,
    ],
    ids=["deep", "no table", "no float", "no limit"],
)
def test_a_value_that_has_no_text_is_one_problem(tmp_path: Path, content: str) -> None:
    (tmp_path / "qcoder.toml").write_text(content + "\n[docstring]\nstyle = 'numpy'\n")
    settings, problems = resolve_settings(tmp_path / "none.toml", None, [tmp_path])
    assert settings.docstring.style == "numpy"
    assert len(problems) == 2  # and that there is no such file of the user's own
