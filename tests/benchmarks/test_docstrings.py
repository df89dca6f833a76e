"""The benchmark of docstrings takes them out and nothing else, and sees what changes besides."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "docstrings.py"

SOURCE = '''"""Module."""

import os


class Store:
    """Store."""


def one(): "One."


def two(a):
    """Two.

    More.
    """
    text = """No docstring."""
    return text
'''
STRIPPED = """
import os


class Store:
    pass


def one(): pass


def two(a):
    text = \"\"\"No docstring.\"\"\"
    return text
"""


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("benchmark_docstrings", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_docstrings_are_taken_out_and_nothing_else(script: ModuleType) -> None:
    assert script.without_docstrings(SOURCE) == STRIPPED
    assert script.without_docstrings(STRIPPED) == STRIPPED


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        (STRIPPED, 0),
        (STRIPPED.replace("    pass\n", '    """Store."""\n\n    pass\n'), 0),
        (STRIPPED.replace("return text", "return  text"), 0),
        (STRIPPED.replace("return text", "return test"), 1),
        (STRIPPED.replace("import os\n", ""), 2),
        (STRIPPED.replace("import os\n", "import os  # why\n"), 1),
    ],
)
def test_every_token_outside_docstrings_counts(script: ModuleType, text: str, changed: int) -> None:
    file = script.Written("a.py", STRIPPED, text, 0)
    assert (script.tokens_changed(file) > 0) == (changed > 0)


def test_a_library_is_written_anew_and_judged(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(SOURCE)
    counts, codes = script.library(tmp_path, "google", None)
    assert counts == {
        "public": 4, "covered": 4, "docstrings": 4, "faulty": 0, "changed": 0,
    }  # fmt: skip
    assert not codes
