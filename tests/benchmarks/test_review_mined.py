"""The benchmark of mined fixes counts what the rules see in the file before a fix and not after it."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "review_mined.py"
LEAK = "def load(path):\n    file = open(path)\n    return file.read()\n"
CLEAN = "def load(path):\n    with open(path) as file:\n        return file.read()\n"


def commit(folder: Path, message: str, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", "add", "."], cwd=folder, check=True)
    subprocess.run(["git", *identity, "commit", "-qm", message], cwd=folder, check=True)


def test_only_small_fixes_of_one_file_with_the_wording_count(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    commit(tmp_path, "first", a=LEAK, b="x = 1\n", c=LEAK)
    commit(tmp_path, "Fix a file leak", a=CLEAN)
    commit(tmp_path, "Fix a race between two counters", b="x = 2\n")
    commit(tmp_path, "Tidy up", c=CLEAN)
    commit(tmp_path, "Fix leaks in two files", a=LEAK, b="x = 3\n")
    done = subprocess.run(
        [sys.executable, "-P", str(SCRIPT), str(tmp_path), "--format", "json"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    answer = json.loads(done.stdout)
    assert answer["figures"] == {"fixes": 2, "found": 1, "found %": 50.0}
    assert answer["notes"][0].endswith("a.py: resource-leak")
