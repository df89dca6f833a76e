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


def rank_once(repo_map):
    """Let all budgets of a task use one ranking, which no budget has a part in; how to forget it."""
    rank, kept = repo_map.get_ranked_tags, []

    def ranked(*args, **kwargs):
        if not kept:
            kept.append(rank(*args, **kwargs))
        return kept[0]

    repo_map.get_ranked_tags = ranked
    return kept.clear


def main():
    """Answer until stdin ends."""
    answers, sys.stdout = sys.stdout, sys.stderr
    setup = json.loads(sys.stdin.readline())
    root = Path(setup["root"])
    files = [str(root / path) for path in setup["files"]]
    repo_map = RepoMap(
        max(setup["budgets"]),
        str(root),
        Counting(setup["tokenizer"]),
        InputOutput(yes=True, pretty=False),
        max_context_window=None,
        map_mul_no_files=1,
        refresh="always",
    )
    forget = rank_once(repo_map)
    for line in sys.stdin:
        task = json.loads(line)
        current = root / task["path"]
        whole = current.read_text()
        current.write_text(task["text"])
        others = [file for file in files if file != str(current)]
        shown = [
            split_map(
                repo_map.get_ranked_tags_map(
                    [str(current)], others, budget, set(), set(task["names"]), True
                )
            )
            for budget in setup["budgets"]
        ]
        forget()
        current.write_text(whole)
        answers.write(json.dumps(shown) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
