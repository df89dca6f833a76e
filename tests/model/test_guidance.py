"""Generations under a JSON schema, by a model whose weights are random."""

import json
import sys
from typing import Any

import jsonschema
import numpy as np
import pytest

from qcoder.model.fake import ByteTokenizer
from qcoder.model.guidance import IMPOSSIBLE, guide_for
from qcoder.model.local import LocalEngine
from qcoder.model.request import GenerationRequest, Prompt, SamplingParams

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "kind": {"enum": ["file", "lock"]},
    },
    "required": ["name", "kind"],
    "additionalProperties": False,
}
TEXT = json.dumps(SCHEMA)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_random_weights_write_follows_the_schema(seed: int, tiny: Any) -> None:
    engine = LocalEngine.load(str(tiny.folder))
    request = GenerationRequest(
        Prompt((7, 8, 9)), 150, SamplingParams(1.0, seed=seed), json_schema=TEXT
    )
    outs = list(engine.generate(request))
    written = json.loads("".join(out.text for out in outs))
    jsonschema.validate(written, SCHEMA)
    assert all(np.isfinite([out.logprob, out.entropy]).all() for out in outs)


def test_only_what_may_come_keeps_its_probability() -> None:
    guide = guide_for(ByteTokenizer(), TEXT)
    assert guide is not None
    flat = np.full(300, -5.0, np.float32)
    assert np.flatnonzero(guide.constrain(flat) > IMPOSSIBLE).tolist() == [ord("{")]
    for byte in b'{"name": "a", "kind": ':
        guide.push(byte)
    assert np.flatnonzero(guide.constrain(flat) > IMPOSSIBLE).tolist() == [ord('"')]
    for byte in b'"lock"}':
        guide.push(byte)
    ends = np.flatnonzero(guide.constrain(flat) > IMPOSSIBLE).tolist()
    assert ends
    assert set(ends) <= ByteTokenizer().eos_ids


def test_a_schema_that_is_none_guides_nothing() -> None:
    assert guide_for(ByteTokenizer(), "no schema") is None


def test_without_the_package_a_schema_is_only_a_wish(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    engine = LocalEngine.load(str(tiny.folder))
    free = [o.id for o in engine.generate(GenerationRequest(Prompt((7, 8, 9)), 9))]
    wished = GenerationRequest(Prompt((7, 8, 9)), 9, json_schema=TEXT)
    assert [o.id for o in engine.generate(wished)] == free
