"""Nothing that a file may hold ends the process or raises: random bytes, cut and scrambled sources."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from language_samples import CASES

# In a process of its own: a crash of a grammar is a failed test, not the end of all tests.
FUZZ = """
import json, random, sys, time
from qcoder.context.parse import error_count, parse, read_syntax
from qcoder.context.record import analyse
from qcoder.context.words import chunk_words

seconds, rounds, seed = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
samples = json.load(sys.stdin)
rng = random.Random(seed)
began = time.monotonic()

def mutated(text):
    for _ in range(rng.randint(1, 4)):
        at, to = sorted(rng.randint(0, len(text)) for _ in range(2))
        kind = rng.randrange(7)
        if kind == 0:
            text = text[:at]
        elif kind == 1:
            text = text[:at] + text[to:]
        elif kind == 2:
            text = text[:to] + text[at:to] * rng.randint(1, 9) + text[to:]
        elif kind == 3:
            text = text[:at] + rng.choice(list("()[]{}<>'\\"`\\\\#/*\\n\\t\\0$:;@é\\U0001f600\\udc80")) * rng.randint(1, 40) + text[at:]
        elif kind == 4:
            noise = bytes(rng.randrange(256) for _ in range(rng.randint(1, 63)))
            text = text[:at] + noise.decode("utf-8", "replace") + text[to:]
        elif kind == 5:
            text = text[:at] + rng.choice(list(samples.values())) + text[at:]
        else:
            text = text.replace("\\n", rng.choice(["\\r\\n", "\\r", "\\f\\n", " "]))
        text = text[:20_000]
    return text

done = 0
while done < rounds and time.monotonic() - began < seconds:
    for language, sample in samples.items():
        before = read_syntax(sample, language)
        text = mutated(sample)
        print(json.dumps([language, text]), file=sys.stderr)
        facts = analyse(text, language)
        assert facts.num_symbols == len(facts.symbols)
        for symbol in facts.symbols:
            assert 0 <= symbol.start_byte <= symbol.end_byte
            assert symbol.start_line < symbol.end_line
        read_syntax(text, language, before)
        tree = parse(text, language)
        assert tree is None or error_count(tree) >= 0
    done += 1
print(done)
"""


def fuzz(seconds: float, rounds: int, seed: int) -> int:
    """Rounds that went well; fails with the text that did not."""
    texts = {language: case[0] for language, case in CASES.items()} | {"latex": "\\section{a}"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", FUZZ, str(seconds), str(rounds), str(seed)],
        input=json.dumps(texts), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stderr[-4000:])
    return int(done.stdout)


@pytest.mark.parametrize("seed", [1, 2])
def test_scrambled_sources_are_read(seed: int) -> None:
    assert fuzz(600, 3, seed) == 3


@pytest.mark.slow
def test_a_minute_of_scrambled_sources_is_read() -> None:
    assert fuzz(60, 1_000_000, 3) > 0
