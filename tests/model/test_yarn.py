"""Context extension: as transformers computes it, exact far out, off when it is off, part of keys."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from qcoder.kernels.rotary import RotaryTable, Yarn, frequencies, rotary_rows
from qcoder.model.config import load_config
from qcoder.model.local import LocalEngine
from qcoder.model.rope import read_theta, read_yarn

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
IDS = [5, 80, 200, 7, 7, 31, 18, 240]


def draw(rng: random.Random) -> dict[str, Any]:
    """Rope parameters with any of the settings that transformers knows."""
    rope: dict[str, Any] = {
        "rope_type": "yarn",
        "rope_theta": rng.choice([100.0, 1e4, 1e6, 5e6, 1e7]),
        "factor": rng.choice([1.0, 1.5, 4.0, 32.0]),
        "original_max_position_embeddings": rng.choice([4, 100, 4096, 262_144]),
    }
    options: dict[str, list[Any]] = {
        "beta_fast": [16, 64],
        "beta_slow": [0.5, 2],
        "attention_factor": [1.25],
        "truncate": [False],
        "mscale": [1.0, 0.707],
        "mscale_all_dim": [1.0, 0.5],
    }
    return rope | {name: rng.choice(found) for name, found in options.items() if rng.random() < 0.4}


def test_frequencies_and_scale_are_those_of_transformers(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(60):
        rope, head_dim = draw(rng), 2 * rng.randint(2, 64)
        config = transformers.Qwen3Config(
            head_dim=head_dim, max_position_embeddings=1 << 20, rope_parameters=dict(rope)
        )
        expected, scale = ROPE_INIT_FUNCTIONS["yarn"](config, torch.device("cpu"))
        data = {"rope_parameters": rope, "max_position_embeddings": 1 << 20}
        yarn = read_yarn(data)
        assert yarn is not None
        found = frequencies(head_dim, read_theta(data), yarn)
        assert torch.allclose(found.float(), expected, rtol=3e-6, atol=0), rope
        assert yarn.scale == pytest.approx(scale, rel=1e-12), rope


def test_a_missing_factor_is_the_quotient_of_the_lengths() -> None:
    rope = {"type": "yarn", "factor": None, "original_max_position_embeddings": 32_768}
    yarn = read_yarn({"rope_scaling": rope, "max_position_embeddings": 131_072})
    assert yarn == Yarn(4.0, 32_768)


def test_rows_that_are_needed_later_equal_those_made_at_once() -> None:
    yarn = Yarn(4.0, 1000)
    table = RotaryTable(12, 1e6, yarn, max_length=30_000)
    whole = rotary_rows(frequencies(12, 1e6, yarn), yarn.scale, 0, 30_000)
    for start, end in ((0, 1), (8100, 8300), (29_999, 30_000), (3, 9)):
        assert torch.equal(table.rows(start, end), whole[:, start:end])


def engine(tiny: Any, **options: Any) -> LocalEngine:
    return LocalEngine.load(str(tiny.folder), **options)


def test_the_factor_of_a_session_equals_that_of_a_config(make_tiny: Callable[..., Any]) -> None:
    plain = make_tiny(seed=3, max_position_embeddings=128)
    written = make_tiny(seed=3, max_position_embeddings=128, rope_scaling=YARN)
    chosen = engine(plain, yarn_factor=4.0)
    assert torch.equal(chosen.logits(IDS), engine(written).logits(IDS))
    assert chosen.info.max_context == 512
    assert engine(plain).info.max_context == 128
    assert not torch.equal(chosen.logits(IDS), engine(plain).logits(IDS))


def test_a_factor_of_one_leaves_short_prompts_as_they_were(make_tiny: Callable[..., Any]) -> None:
    plain = make_tiny(seed=3, max_position_embeddings=128)
    written = make_tiny(seed=3, max_position_embeddings=128, rope_scaling=YARN)
    assert torch.equal(engine(written, yarn_factor=1).logits(IDS), engine(plain).logits(IDS))


def test_what_was_cached_under_another_factor_has_another_key(
    make_tiny: Callable[..., Any],
) -> None:
    folder = make_tiny(max_position_embeddings=128).folder
    keys = [load_config(folder, factor).rotary_key for factor in (None, 1, 2, 4, 4.5)]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4
    shapes = [engine(make_tiny(), yarn_factor=f)._model.cache_shape for f in (2, 4)]
    assert shapes[0].rotary != shapes[1].rotary
