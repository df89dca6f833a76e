"""Training items: how corpus text becomes rows of token ids.

A row is a run of items, cut to a fixed length. An item is a window of one file, plain or as
fill-in-the-middle (Bavarian et al., arXiv 2207.14255) with Qwen's special tokens, split at
characters so that the model learns to continue from inside a word:

    plain  <|file_sep|>path\\n text <|endoftext|>
    PSM    <|file_sep|>path\\n <|fim_prefix|>pre<|fim_suffix|>suf<|fim_middle|>mid<|endoftext|>
    SPM    <|file_sep|>path\\n <|fim_prefix|><|fim_suffix|>suf<|fim_middle|>pre mid<|endoftext|>

SPM is the order that the default model serves: what the user types extends the end of the prompt,
so the KV cache of everything before it stays valid. Some items are preceded by a window of another
file of the same package, which teaches the use of packed context.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from tokenizers import Tokenizer

LANGUAGE_SHARE = {
    "python": 0.62,
    "typescript": 0.08,
    "javascript": 0.05,
    "go": 0.09,
    "rust": 0.07,
    "c": 0.02,
    "cpp": 0.07,
}
SPANS = {
    "rest_of_line": 0.35,
    "lines": 0.20,
    "block": 0.12,
    "node": 0.08,
    "docstring": 0.08,  # function-to-docstring: the body stands in the suffix
    "random": 0.17,
}
PLAIN_SHARE, PSM_SHARE, NEIGHBOUR_SHARE, IMPORT_DROP_SHARE = 0.35, 0.10, 0.25, 0.10
CHARS_PER_TOKEN = 3.0  # below the real mean, so that most items end inside their row
DOCSTRING = re.compile(r'"""(.+?)"""', re.DOTALL)
NAME = re.compile(r"[A-Za-z_]\w{4,}")
NEIGHBOURS_TRIED = 6
CLEANEST = 0.15  # share of the files
LONGEST_NODE = 600  # characters
IMPORT = re.compile(r"^(?:from \S+ )?import [^\n(]*\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Source:
    """One file of the corpus."""

    package: str
    path: str
    text: str
    quality: float = 0.0  # how clean the corpus builder found it; only the order counts


class TextSource(Protocol):
    """Where items come from: the corpus of the default model, or a user's workspace."""

    def draw(self, rng: random.Random) -> tuple[str, Source]:
        """A language and one of its files."""
        ...

    def neighbour(self, language: str, source: Source, rng: random.Random) -> Source:
        """A file that would be packed beside `source`."""
        ...


class Corpus:
    """Files by language, drawn in proportion to their length; languages without text are left out.

    A share `clean_share` of the draws takes one of the cleanest files of the language only.
    """

    def __init__(self, folder: Path) -> None:
        self.clean_share = 0.0
        self.files: dict[str, list[Source]] = {}
        self.cumulative: dict[str, np.ndarray] = {}
        self.cleanest: dict[str, np.ndarray] = {}
        self.packages: dict[tuple[str, str], list[Source]] = {}
        for language in LANGUAGE_SHARE:
            rows = []
            with (folder / f"{language}.jsonl").open() as lines:
                for line in lines:
                    row = json.loads(line)
                    quality = float(row.get("quality", 0.0))
                    source = Source(row["package"], row["path"], row["text"], quality)
                    rows.append(source)
                    self.packages.setdefault((language, source.package), []).append(source)
            self.files[language] = rows
            if rows:
                lengths = np.array([min(len(s.text), 60_000) for s in rows], dtype=np.float64)
                self.cumulative[language] = lengths.cumsum() / lengths.sum()
                qualities = np.array([s.quality for s in rows])
                lengths[qualities < np.quantile(qualities, 1 - CLEANEST)] = 0.0
                self.cleanest[language] = lengths.cumsum() / lengths.sum()
        if not self.cumulative:
            raise SystemExit(f"{folder} holds no text; build it with qcoder.training.corpus")
        self.languages = list(self.cumulative)
        self.shares = [LANGUAGE_SHARE[language] for language in self.languages]

    def draw(self, rng: random.Random) -> tuple[str, Source]:
        """A language by its share and a file by its length."""
        language = rng.choices(self.languages, self.shares)[0]
        clean = self.clean_share > 0 and rng.random() < self.clean_share
        cumulative = self.cleanest[language] if clean else self.cumulative[language]
        index = int(np.searchsorted(cumulative, rng.random(), side="right"))
        return language, self.files[language][min(index, len(self.files[language]) - 1)]

    def neighbour(self, language: str, source: Source, rng: random.Random) -> Source:
        """Of some files of the same package the one that shares most names with `source`.

        That is what the packer prefers as well. A file alone in its package is its own neighbour.
        """
        pool = self.packages[language, source.package]
        names = names_of(source)
        near = [rng.choice(pool) for _ in range(NEIGHBOURS_TRIED)]
        return max(near, key=lambda s: len(names & names_of(s)) * (s is not source))


def names_of(source: Source) -> set[str]:
    """Long identifiers near the beginning of a file."""
    return set(NAME.findall(source.text[:6000]))


def window(text: str, size: int, rng: random.Random) -> str:
    """A run of whole lines of about `size` characters."""
    if len(text) <= size:
        return text
    start = rng.randrange(max(1, len(text) - size // 2)) if rng.random() < 0.85 else 0
    start = text.rfind("\n", 0, start) + 1
    return text[start : start + size]


def bracketed(text: str, at: int) -> tuple[int, int] | None:
    """What stands between the first brackets that open after `at`: arguments, a literal, a body."""
    start = next((i for i in range(at, len(text)) if text[i] in "([{"), None)
    if start is None:
        return None
    closer, depth = {"(": ")", "[": "]", "{": "}"}[text[start]], 0
    for i in range(start, min(len(text), start + LONGEST_NODE)):
        depth += (text[i] == text[start]) - (text[i] == closer)
        if depth == 0:
            return start + 1, i
    return None


def choose_span(text: str, rng: random.Random) -> tuple[int, int]:
    """Start and end of the middle, in characters."""
    kind = rng.choices(list(SPANS), list(SPANS.values()))[0]
    size = len(text)
    at = rng.randrange(size)
    line_start = text.rfind("\n", 0, at) + 1
    line_end = text.find("\n", at)
    line_end = size if line_end < 0 else line_end
    if kind == "rest_of_line":
        return at, line_end
    if kind == "docstring":
        found = [m.span(1) for m in DOCSTRING.finditer(text) if m.end() - m.start() < 600]
        return rng.choice(found) if found else (at, line_end)
    if kind == "node":
        return bracketed(text, at) or (at, line_end)
    if kind == "random":
        return at, min(size, at + int(rng.expovariate(1 / 60)) + 1)
    indent = len(text[line_start:line_end]) - len(text[line_start:line_end].lstrip())
    start = line_start + indent if rng.random() < 0.7 else at
    end = line_end
    wanted = rng.randint(1, 5) if kind == "lines" else 12
    for _ in range(wanted - 1):
        following = text.find("\n", end + 1)
        following = size if following < 0 else following
        line = text[end + 1 : following]
        if kind == "block" and line.strip() and len(line) - len(line.lstrip()) < indent:
            break
        end = following
        if end >= size:
            break
    return start, end


class Rows:
    """An endless, seeded stream of rows of `length` + 1 token ids."""

    def __init__(self, corpus: TextSource, tokenizer: Tokenizer, seed: int) -> None:
        self.corpus, self.tokenizer, self.rng = corpus, tokenizer, random.Random(seed)
        special = tokenizer.get_vocab(with_added_tokens=True)
        self.end, self.file_sep = special["<|endoftext|>"], special["<|file_sep|>"]
        self.prefix, self.suffix = special["<|fim_prefix|>"], special["<|fim_suffix|>"]
        self.middle = special["<|fim_middle|>"]

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text; special tokens in it are not recognized as such."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def header(self, source: Source) -> list[int]:
        """`<|file_sep|>path\\n`."""
        return [self.file_sep, *self.encode(source.path + "\n")]

    def item(self, budget_tokens: int) -> list[int]:
        """One item of about `budget_tokens`."""
        rng = self.rng
        language, source = self.corpus.draw(rng)
        ids: list[int] = []
        if budget_tokens >= 400 and rng.random() < NEIGHBOUR_SHARE:
            near = self.corpus.neighbour(language, source, rng)
            size = int(budget_tokens * rng.uniform(0.15, 0.4) * CHARS_PER_TOKEN)
            ids += [*self.header(near), *self.encode(window(near.text, size, rng))]
        ids += self.header(source)
        text = window(source.text, int((budget_tokens - len(ids)) * CHARS_PER_TOKEN), rng)
        if language == "python" and rng.random() < IMPORT_DROP_SHARE:
            text = IMPORT.sub("", text)
        if len(text) < 20 or rng.random() < PLAIN_SHARE:
            return [*ids, *self.encode(text), self.end]
        start, stop = choose_span(text, rng)
        # A short suffix is the common case while typing, so the kept length varies.
        tail = text[stop : stop + int(rng.choice((0, 60, 200, 500, 1000, 4000)))]
        pre, mid = text[:start], text[start:stop]
        if rng.random() < PSM_SHARE:
            ids += [self.prefix, *self.encode(pre), self.suffix, *self.encode(tail), self.middle]
            return [*ids, *self.encode(mid), self.end]
        ids += [self.prefix, self.suffix, *self.encode(tail), self.middle]
        # Half of the time the split is visible to the tokenizer, as it is at a cursor.
        if rng.random() < 0.5:
            return [*ids, *self.encode(pre), *self.encode(mid), self.end]
        return [*ids, *self.encode(pre + mid), self.end]

    def row(self, length: int) -> list[int]:
        """`length` + 1 ids: inputs and next-token targets overlap by all but one."""
        ids: list[int] = []
        while len(ids) <= length:
            ids += self.item(max(length - len(ids), 96))
        return ids[: length + 1]

    def batches(self, rows: int, length: int) -> Iterator[np.ndarray]:
        """Endless arrays [rows, length + 1] of int64."""
        while True:
            yield np.array([self.row(length) for _ in range(rows)], dtype=np.int64)
