"""Every architecture against transformers in float32, on tiny checkpoints of random shapes.

`--seed N` draws other shapes, weights and tokens. The checkpoints are written by transformers; the
same tensors are read with its config.json and with one in the style of the hub.
"""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from qcoder.model.checkpoint import Checkpoint
from qcoder.model.config import load_config, parse_config
from qcoder.model.decoder import Decoder
from qcoder.model.kv_cache import Sequence
from qcoder.model.registry import ARCHITECTURES, network_class

TOLERANCE = 2e-5
DRAWS = 4
TOKENS = 150
"""Over two chunks of the delta rule."""

GAIN = 0.3
"""Of every matrix. With 1 the norm inside a DeltaNet, of values near zero, magnifies rounding so much
that transformers' own two ways, in chunks and token by token, differ by 1e-4.
"""


@dataclass(frozen=True)
class Case:
    """A checkpoint, the model that wrote it and ours that read it."""

    folder: Path
    vocab: int
    oracle: Any
    model: Decoder

    def ids(self, count: int, seed: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(0, self.vocab, (count,), generator=generator).tolist()

    def expected(self, ids: list[int]) -> Tensor:
        logits: Tensor = self.oracle(torch.tensor([ids])).logits[0]
        return logits

    def empty(self, capacity: int = TOKENS) -> Sequence:
        return Sequence(self.model.cache_shape, capacity)

    def run(self, ids: list[int], sequence: Sequence) -> Tensor:
        return self.model.forward(ids, sequence, all_logits=True)


def common(rng: random.Random, draw: int) -> dict[str, Any]:
    """Sizes that all architectures have; even draws are tied, two of four are scaled by YaRN."""
    kv_heads = rng.randint(1, 3)
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": rng.choice([1e4, 1e6, 1e7])}
    if draw % 4 in (1, 2):
        rope |= {
            "rope_type": "yarn",
            "factor": rng.choice([2.0, 4.0, 3.5]),
            "original_max_position_embeddings": rng.choice([40, 64, 200]),
        }
    return {
        "vocab_size": rng.randint(90, 210),
        "hidden_size": rng.randint(20, 50),
        "intermediate_size": rng.randint(11, 60),
        "num_hidden_layers": rng.randint(2, 4),
        "num_attention_heads": kv_heads * rng.randint(1, 4),
        "num_key_value_heads": kv_heads,
        "head_dim": 2 * rng.randint(2, 9),
        "max_position_embeddings": 800,
        "rope_parameters": rope,
        "rms_norm_eps": rng.choice([1e-6, 1e-5]),
        "tie_word_embeddings": draw % 2 == 0,
    }


def sparse(rng: random.Random, draw: int, layers: int) -> dict[str, Any]:
    """Experts; the second draw has dense layers by list, the third by step."""
    experts = rng.randint(3, 9)
    return {
        "num_experts": experts,
        "num_experts_per_tok": rng.randint(1, experts),
        "moe_intermediate_size": rng.randint(5, 30),
        "norm_topk_prob": draw % 4 in (0, 3),
        "mlp_only_layers": [rng.randrange(layers)] if draw % 4 == 1 else [],
        "decoder_sparse_step": 2 if draw % 4 == 2 else 1,
    }


def qwen2(rng: random.Random, draw: int) -> dict[str, Any]:
    config = common(rng, draw)
    # Not given in the checkpoints that people have: the width of all heads is the hidden size.
    config["hidden_size"] = config["num_attention_heads"] * config.pop("head_dim")
    return config


def qwen3(rng: random.Random, draw: int) -> dict[str, Any]:
    return {**common(rng, draw), "attention_bias": draw == 3}


def qwen3_moe(rng: random.Random, draw: int) -> dict[str, Any]:
    config = qwen3(rng, draw)
    return config | sparse(rng, draw, config["num_hidden_layers"])


def qwen3_next(rng: random.Random, draw: int) -> dict[str, Any]:
    config = qwen3_moe(rng, draw)
    interval, key_heads = rng.choice([2, 3, 4]), rng.randint(1, 3)
    config["rope_parameters"]["partial_rotary_factor"] = rng.choice([0.25, 0.5, 1.0])
    return config | {
        "head_dim": rng.choice([8, 16, 24]),
        "num_hidden_layers": rng.randint(interval, 4),
        "full_attention_interval": interval,
        "shared_expert_intermediate_size": rng.randint(5, 30),
        "linear_num_key_heads": key_heads,
        "linear_num_value_heads": key_heads * rng.randint(1, 3),
        "linear_key_head_dim": rng.randint(12, 40),
        "linear_value_head_dim": rng.randint(5, 20),
        "linear_conv_kernel_dim": rng.randint(2, 4),
        "mlp_only_layers": [0] if draw % 4 == 1 else [],
    }


KINDS: dict[str, tuple[str, Callable[[random.Random, int], dict[str, Any]]]] = {
    "qwen2": ("Qwen2", qwen2),
    "qwen3": ("Qwen3", qwen3),
    "qwen3_moe": ("Qwen3Moe", qwen3_moe),
    "qwen3_next": ("Qwen3Next", qwen3_next),
}
"""By `model_type`: what transformers calls it, and random shapes."""


def write(kind: str, seed: int, draw: int, folder: Path) -> Any:
    """A checkpoint in `folder`; returns the model that wrote it."""
    name, shapes = KINDS[kind]
    config = getattr(transformers, f"{name}Config")(**shapes(random.Random(f"{seed} {draw}"), draw))
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    model = getattr(transformers, f"{name}ForCausalLM")(config).float().eval()
    generator = torch.Generator().manual_seed(1000 * seed + draw)
    for parameter_name, parameter in model.named_parameters():
        parameter.data = random_weight(parameter_name, parameter, generator)
    model.tie_weights()
    model.save_pretrained(folder)
    return model


def random_weight(name: str, like: Tensor, generator: torch.Generator) -> Tensor:
    """Wide enough that every part of the model is seen in the logits."""
    noise = torch.randn(like.shape, generator=generator)
    if name.endswith("A_log"):
        return (0.01 + 4 * torch.rand(like.shape, generator=generator)).log()
    if "norm" in name:
        return like.data + 0.2 * noise
    return 0.3 * noise if like.dim() == 1 else GAIN * noise / math.sqrt(like.shape[-1])


def read(folder: Path, dtype: torch.dtype = torch.float32) -> Decoder:
    config = load_config(folder)
    with Checkpoint.open(folder) as checkpoint:
        load = network_class(config.model_type).load
        model = load(checkpoint, config, dtype, config.max_context)
    assert isinstance(model, Decoder)
    return model


@pytest.fixture(scope="module", params=[(k, d) for k in KINDS for d in range(DRAWS)], ids=str)
def case(request: Any, seed: int, tmp_path_factory: pytest.TempPathFactory) -> Case:
    kind, draw = request.param
    folder = tmp_path_factory.mktemp(kind)
    with torch.inference_mode():
        oracle = write(kind, seed, draw, folder)
    return Case(folder, oracle.config.vocab_size, oracle, read(folder))


def check(found: Tensor, expected: Tensor) -> None:
    assert float(expected.std()) > 0.1, "the test model must say something"
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= TOLERANCE


def test_every_architecture_is_compared() -> None:
    assert KINDS.keys() == ARCHITECTURES.keys()


@torch.inference_mode()
def test_prefill_and_cached_decode_match(case: Case, seed: int) -> None:
    ids = case.ids(TOKENS, seed)
    expected = case.expected(ids)
    check(case.run(ids, case.empty()), expected)
    sequence, at = case.empty(), random.Random(seed).randrange(1, TOKENS - 20)
    parts = [case.run(ids[:at], sequence)]
    parts += [case.run([token], sequence) for token in ids[at:]]
    check(torch.cat(parts), expected)
    sequence.check_integrity()


@torch.inference_mode()
def test_prefill_in_chunks_of_any_size_matches(case: Case, seed: int) -> None:
    rng, ids = random.Random(seed), case.ids(TOKENS, seed + 1)
    sequence = case.empty(1)
    parts = []
    while (start := len(sequence)) < TOKENS:
        parts.append(case.run(ids[start : start + rng.choice([1, 2, 3, 7, 63, 65])], sequence))
    check(torch.cat(parts), case.expected(ids))


@torch.inference_mode()
def test_interleaved_sequences_of_unequal_lengths_match_a_padded_batch(
    case: Case, seed: int
) -> None:
    prompts = [case.ids(length, seed + length) for length in (1, 9, 70)]
    longest, steps = max(map(len, prompts)), 3
    rows = [prompt + case.ids(steps, seed) for prompt in prompts]
    padded = torch.tensor([row + [0] * (longest + steps - len(row)) for row in rows])
    mask = torch.tensor([[i < len(row) for i in range(padded.shape[1])] for row in rows]).long()
    batch = case.oracle(padded, attention_mask=mask).logits
    sequences = [case.empty() for _ in rows]
    found = [[case.run(p, s)] for p, s in zip(prompts, sequences, strict=True)]
    for step in range(steps):
        for at, prompt in enumerate(prompts):
            found[at].append(case.run([rows[at][len(prompt) + step]], sequences[at]))
    for parts, logits, row in zip(found, batch, rows, strict=True):
        check(torch.cat(parts), logits[: len(row)])


@torch.inference_mode()
def test_a_sequence_that_was_cut_and_continued_matches(case: Case, seed: int) -> None:
    ids, other = case.ids(TOKENS, seed + 2), case.ids(TOKENS, seed + 3)
    sequence = case.empty()
    case.run(ids[:40], sequence)
    sequence.snapshot()
    case.run(other[:30], sequence)
    copy = sequence.copy_prefix(40)
    sequence.truncate(sequence.cuttable(45 if case.model.cache_shape.state else 40))
    expected = case.expected(ids)[40:]
    for one in (sequence, copy):
        assert one.ids == ids[:40]
        check(case.run(ids[40:], one), expected)
        one.check_integrity()


@torch.inference_mode()
def test_bfloat16_is_as_near_to_float32_as_that_of_transformers(case: Case, seed: int) -> None:
    ids = case.ids(TOKENS, seed + 4)
    exact = case.expected(ids).log_softmax(-1)
    ours = read(case.folder, torch.bfloat16)
    found = ours.forward(ids, Sequence(ours.cache_shape, TOKENS), all_logits=True)
    peer = copy.deepcopy(case.oracle).bfloat16()(torch.tensor([ids])).logits[0].float()
    distances = [
        # The median: a few tokens go to other experts, in either.
        float((exact.exp() * (exact - logits.log_softmax(-1))).sum(-1).median())
        for logits in (found, peer)
    ]
    assert 0 < distances[0] <= 1.5 * distances[1]


def test_parameters_are_counted(case: Case) -> None:
    assert case.model.config.parameters == case.oracle.num_parameters()


def test_the_hubs_style_of_config_means_the_same(case: Case) -> None:
    written = json.loads((case.folder / "config.json").read_text())
    assert parse_config(hub_style(written)) == parse_config(written) == case.model.config


def hub_style(written: dict[str, Any]) -> dict[str, Any]:
    """The config.json of transformers 5 as the hub has it."""
    data = dict(written)
    rope = dict(data.pop("rope_parameters"))
    data["rope_theta"] = rope.pop("rope_theta")
    if "partial_rotary_factor" in rope:
        data["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    data["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    data["torch_dtype"] = data.pop("dtype")
    if "num_local_experts" in data:
        data["num_experts"] = data.pop("num_local_experts")
    types = data.pop("layer_types", [])
    if "linear_attention" in types:
        data["full_attention_interval"] = types.index("full_attention") + 1
    return data
