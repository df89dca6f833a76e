"""Runs inside aider's environment: repository maps for tasks read from stdin, answers to stdout.

The first line names the repository, its files, a tokenizer and the budgets; every further line is
a task. An answer is, for every budget, a list of (path, text).
"""

import json
import re
import sys
from pathlib import Path

from aider.io import InputOutput
from aider.repomap import RepoMap
from tokenizers import Tokenizer


class Counting:
    """What aider needs of a model: the cost of a text."""

    def __init__(self, path):
        self._tokenizer = Tokenizer.from_file(path)

    def token_count(self, text):
        """Tokens of a text."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


def split_map(text):
    """The map's sections by path, without its margin."""
    shown = []
    for line in (text or "").split("\n"):
        header = re.fullmatch(r"(\S.*?):?", line)
        if header and not line.startswith(("│", "⋮", "█")):
            shown.append([header.group(1), ""])
        elif shown:
            shown[-1][1] += line.lstrip("│█⋮") + "\n"
    return shown


def main():
    """Answer until stdin ends."""
    answers, sys.stdout = sys.stdout, sys.stderr
    setup = json.loads(sys.stdin.readline())
    root = Path(setup["root"])
    files = [str(root / path) for path in setup["files"]]
    model, io = Counting(setup["tokenizer"]), InputOutput(yes=True, pretty=False)
    maps = [
        RepoMap(
            budget,
            str(root),
            model,
            io,
            max_context_window=None,
            map_mul_no_files=1,
            refresh="always",
        )
        for budget in setup["budgets"]
    ]
    for line in sys.stdin:
        task = json.loads(line)
        current = root / task["path"]
        whole = current.read_text()
        current.write_text(task["text"])
        others = [file for file in files if file != str(current)]
        shown = [
            split_map(
                m.get_ranked_tags_map(
                    [str(current)], others, m.max_map_tokens, set(), set(task["names"]), True
                )
            )
            for m in maps
        ]
        current.write_text(whole)
        answers.write(json.dumps(shown) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
