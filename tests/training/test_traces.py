"""Traces of holes say what the engine says when it fills them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from qcoder.model.engine import Engine
from qcoder.model.healing import PrefixIndex
from qcoder.model.mixture import GATE_FILE
from qcoder.model.ngram import SuffixTable
from qcoder.model.registry import DEFAULT_FOLDER
from qcoder.model.request import GenerationRequest, Prompt, StopRules
from qcoder.training.gate import Places, mixed
from qcoder.training.traces import HoleTraces, trace_hole

ABOVE = "import json\n\n\ndef load(path):\n    with open(path) as file:\n        return json.load(file)\n"
CASES = [
    ("\n\ndef save(path, data):\n    with", b" op", False),
    ("\n\ndef load_all(paths):\n    return [", b"lo", False),
    ("\n\ndef save(path, data):", b"\n   ", False),
    ("\n\ndef save(path, data):\n", b"    ", True),
    ("\n\nclass Loader:\n\n    def read(self, path):\n        return ", b"", False),
]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load("default")


@pytest.mark.parametrize(("text", "healed", "indented"), CASES)
def test_what_the_engine_writes_is_the_likeliest_of_every_step(
    engine: Engine, text: str, healed: bytes, indented: bool, tmp_path: Path
) -> None:
    tokenizer = engine.tokenizer
    ids = [tokenizer.special["<|file_sep|>"], *tokenizer.encode("a.py\n" + ABOVE + text)]
    prompt = Prompt(tuple(ids), (), healed, (), indented)
    tables = (SuffixTable.build(tokenizer.encode(ABOVE)),)
    request = GenerationRequest(prompt, 40, stop=StopRules(strings=("\n",)), copy_tables=tables)
    outs = list(engine.generate(request))
    line = "".join(out.text for out in outs)
    prefixes = PrefixIndex(tokenizer, tokenizer.vocab_size)
    traced = trace_hole(engine, prefixes, prompt, tables, line + "\n")
    assert traced is not None
    path = tmp_path / "traces.npz"
    HoleTraces.of([traced, traced]).save(path)
    places = Places([], HoleTraces.load(path))
    assert [hole.tolist() for hole in places.holes] == [
        list(range(len(traced.features))),
        list(range(len(traced.features), 2 * len(traced.features))),
    ]
    gate = load_file(DEFAULT_FOLDER / GATE_FILE)
    hidden = torch.tanh(places.features @ gate["hidden_weight"].T + gate["hidden_bias"])
    scores = hidden @ gate["out_weight"].T + gate["out_bias"]
    chosen = mixed(places, torch.arange(len(scores)), scores).argmax(-1)
    assert not chosen.any()


def test_what_cannot_come_out_is_no_trace(engine: Engine) -> None:
    tokenizer = engine.tokenizer
    prefixes = PrefixIndex(tokenizer, tokenizer.vocab_size)
    prompt = Prompt(tuple(tokenizer.encode("x = 1\nif x:\n")), (), b"    ", (), True)
    assert trace_hole(engine, prefixes, prompt, (), "x = 2\n") is not None
    assert trace_hole(engine, prefixes, prompt, (), " x = 2\n") is None
    assert trace_hole(engine, prefixes, prompt, (), "x = 2") is None
