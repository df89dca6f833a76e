"""The benchmark of the tokenizer counts bytes and tokens of any folder of repositories."""

import json
import subprocess
import sys
from pathlib import Path

from tokenizers import Tokenizer

from qcoder.model.registry import find_model

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "tokenizer.py"


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", str(SCRIPT), *arguments],
        cwd=cwd, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_bytes_per_token_are_counted_over_all_files_of_a_language(tmp_path: Path) -> None:
    texts = ["größe = 1\n" * 63, "def add(first, second):\n    return first + second\n" * 9]
    (tmp_path / "repo").mkdir()
    for name, text in zip(("a.py", "b.py"), texts, strict=True):
        (tmp_path / "repo" / name).write_text(text)
    (tmp_path / "files.txt").write_text("repo/a.py\nrepo/b.py\n")
    done = run("--root", ".", "--files", "files.txt", "--format", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    tokenizer = Tokenizer.from_file(str(find_model("default") / "tokenizer.json"))
    tokens = sum(len(tokenizer.encode(text).ids) for text in texts)
    size = sum(len(text.encode()) for text in texts)
    figures = json.loads(done.stdout)["figures"]
    assert figures.pop("shipped_python_bytes_per_token") == round(size / tokens, 3)
    assert figures.keys() == {
        "encode_tokens_per_second", "encode_by_library_tokens_per_second", "encode_speedup",
    }  # fmt: skip
    assert min(figures.values()) > 0


def test_wrong_usage_is_said(tmp_path: Path) -> None:
    done = run("--root", ".", cwd=tmp_path)
    assert done.returncode == 2
    assert "--root and --files belong together" in done.stderr
