"""The published models by their config.json: sizes, contexts and what a token costs in the cache."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from qcoder.model.config import extended, load_config, parse_config
from qcoder.model.decoder import cache_shape
from qcoder.model.errors import CheckpointError

COMMON: dict[str, Any] = {
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
    "vocab_size": 151936,
    "eos_token_id": 151645,
}
SPARSE = COMMON | {
    "model_type": "qwen3_moe",
    "attention_bias": False,
    "decoder_sparse_step": 1,
    "head_dim": 128,
    "max_position_embeddings": 262144,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
    "num_experts_per_tok": 8,
    "rope_theta": 10000000,
}
CODER_30B = SPARSE | {
    "hidden_size": 2048,
    "intermediate_size": 5472,
    "moe_intermediate_size": 768,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
}
CODER_480B = SPARSE | {
    "hidden_size": 6144,
    "intermediate_size": 8192,
    "moe_intermediate_size": 2560,
    "num_attention_heads": 96,
    "num_experts": 160,
    "num_hidden_layers": 62,
    "num_key_value_heads": 8,
}
CODER_NEXT = SPARSE | {
    "model_type": "qwen3_next",
    "full_attention_interval": 4,
    "head_dim": 256,
    "hidden_size": 2048,
    "intermediate_size": 5120,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_value_head_dim": 128,
    "moe_intermediate_size": 512,
    "num_attention_heads": 16,
    "num_experts": 512,
    "num_experts_per_tok": 10,
    "num_hidden_layers": 48,
    "num_key_value_heads": 2,
    "partial_rotary_factor": 0.25,
    "shared_expert_intermediate_size": 512,
}
CODER_HALF_B = COMMON | {
    "model_type": "qwen2",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "max_position_embeddings": 32768,
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
}
CODER_7B = CODER_HALF_B | {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
    "vocab_size": 152064,
}


@pytest.mark.parametrize(
    ("data", "billions", "active", "kib_a_token"),
    [
        (CODER_30B, 30.53, 3.04, 96),
        (CODER_480B, 480.16, 34.5, 248),
        (CODER_NEXT, 79.674, 3.56, 24),
        (CODER_HALF_B, 0.494032768, 0.494, 12),
        (CODER_7B, 7.615616512, 7.07, 56),
    ],
    ids=["30B-A3B", "480B-A35B", "Next-80B-A3B", "2.5-0.5B", "2.5-7B"],
)
def test_a_published_model_has_its_published_size(
    data: dict[str, Any], billions: float, active: float, kib_a_token: int
) -> None:
    config = parse_config(data)
    assert config.parameters / 1e9 == pytest.approx(billions, rel=1e-4 if billions > 9 else 1e-9)
    assert config.active_parameters / 1e9 == pytest.approx(active, rel=0.01)
    shape = cache_shape(config, config.max_context, torch.bfloat16)
    assert shape.token_bytes == kib_a_token * 1024


def test_the_state_of_next_has_a_fixed_size() -> None:
    shape = cache_shape(parse_config(CODER_NEXT), 262_144, torch.bfloat16)
    assert shape.state_bytes / 2**20 == pytest.approx(73.7, abs=0.05)
    assert shape.layers == 12


def test_a_quarter_of_nexts_heads_rotates() -> None:
    assert parse_config(CODER_NEXT).rotary_dim == 64
    assert parse_config(CODER_NEXT | {"partial_rotary_factor": None}).rotary_dim == 64
    assert parse_config(CODER_30B).rotary_dim == 128


def test_a_million_tokens_by_yarn() -> None:
    plain = parse_config(CODER_30B)
    config = extended(plain, CODER_30B, 4.0)
    assert (plain.max_context, config.max_context) == (262_144, 1_048_576)
    assert config.yarn is not None
    assert config.yarn.scale == pytest.approx(1.13863, abs=1e-5)
    assert config == replace(plain, yarn=config.yarn, max_context=config.max_context)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"linear_num_value_heads": 33}, "33 linear value heads over 16 key heads"),
        ({"linear_key_head_dim": 0}, "do not fit"),
        ({"partial_rotary_factor": 1.5}, "partial_rotary_factor 1.5"),
        ({"layer_types": ["full_attention"]}, "do not name 48 layers"),
        ({"layer_types": ["mamba"] * 48}, "of a known kind"),
        ({"layer_types": ["sliding_attention"] * 48}, "sliding window"),
        ({"full_attention_interval": 0}, "modulo by zero"),
        ({"num_hidden_layers": 0}, "not positive"),
        ({"vocab_size": -1}, "absurd|not positive"),
    ],
)
def test_a_hybrid_that_does_not_fit_together_says_why(
    changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises((ValueError, ZeroDivisionError), match=expected):
        parse_config(CODER_NEXT | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_experts_per_tok": float("inf")},
        {"rope_scaling": {"rope_type": "yarn", "factor": float("inf")}},
    ],
)
def test_a_number_that_is_none_is_said_to_be_damaged(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SPARSE | changes))
    with pytest.raises(CheckpointError, match=r"config.json: "):
        load_config(tmp_path)


def test_a_model_without_experts_is_dense() -> None:
    config = parse_config(CODER_NEXT | {"num_experts": 0})
    assert config.dense_layers == frozenset(range(48))


def test_all_layers_may_be_of_one_kind() -> None:
    for kind, layers in (("full_attention", 48), ("linear_attention", 0)):
        config = parse_config(CODER_NEXT | {"layer_types": [kind] * 48})
        assert cache_shape(config, 100, torch.float32).layers == layers
