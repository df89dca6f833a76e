"""Our forward pass against `transformers.Qwen3MoeForCausalLM` in float32."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from qcoder.model.checkpoint import Checkpoint
from qcoder.model.config import load_config
from qcoder.model.decoder import Decoder
from qcoder.model.kv_cache import Sequence
from qcoder.model.local import LocalEngine
from qcoder.model.qwen3_moe import Qwen3Moe

TOLERANCE = 2e-5

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"tie_word_embeddings": True},
    "one expert a token, not renormalized": {"num_experts_per_tok": 1, "norm_topk_prob": False},
    "all experts": {"num_experts_per_tok": 5},
    "dense layers by list": {"mlp_only_layers": [0, 2]},
    "dense layers by step": {"decoder_sparse_step": 2},
    "biases": {"attention_bias": True},
    "no grouping": {"num_key_value_heads": 4},
    "one key-value head": {"num_key_value_heads": 1, "num_attention_heads": 3, "head_dim": 10},
    "odd sizes": {"hidden_size": 33, "moe_intermediate_size": 7, "num_experts": 3, "head_dim": 6},
    "yarn": {
        "max_position_embeddings": 512,
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 128,
        },
    },
}


def oracle(folder: Any) -> Any:
    model: Any = transformers.Qwen3MoeForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager",
        experts_implementation="eager",
    )
    return model.eval()


def open_model(folder: Any) -> Decoder:
    config = load_config(folder)
    return Qwen3Moe.load(Checkpoint.open(folder), config, torch.float32, config.max_context)


def empty(model: Decoder, capacity: int) -> Sequence:
    return Sequence(model.cache_shape, capacity)


def random_ids(count: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 320, (count,), generator=generator).tolist()


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_prefill_and_cached_decode_match_transformers(
    case: str, make_tiny: Callable[..., Any]
) -> None:
    folder = make_tiny(seed=3, **CASES[case]).folder
    model, ids = open_model(folder), random_ids(100)
    expected = oracle(folder)(torch.tensor([ids])).logits[0]
    assert float(expected.std()) > 0.05, "the test model must say something"
    whole = model.forward(ids, empty(model, 100), all_logits=True)
    assert distance(whole, expected) <= TOLERANCE
    sequence = empty(model, 100)
    parts = [model.forward(ids[:63], sequence, all_logits=True)]
    parts += [model.forward([i], sequence, all_logits=True) for i in ids[63:]]
    assert distance(torch.cat(parts), expected) <= TOLERANCE


@pytest.mark.parametrize("length", [1, 63, 100, 257])
@pytest.mark.parametrize("chunk", [1, 2, 5, 63, 256])
@torch.inference_mode()
def test_chunked_prefill_equals_the_whole(length: int, chunk: int, tiny: Any) -> None:
    model, ids = open_model(tiny.folder), random_ids(length, seed=length)
    whole = model.forward(ids, empty(model, length), all_logits=True)
    sequence = empty(model, length)
    parts = [
        model.forward(ids[at : at + chunk], sequence, all_logits=True)
        for at in range(0, length, chunk)
    ]
    assert distance(torch.cat(parts), whole) <= TOLERANCE
    assert sequence.ids == ids


def test_a_config_written_by_transformers_5_loads_and_agrees(tiny: Any, tmp_path: Any) -> None:
    reference = oracle(tiny.folder)
    reference.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((tiny.folder / "tokenizer.json").read_bytes())
    engine = LocalEngine.load(str(tmp_path), dtype="float32")
    ids = random_ids(40)
    with torch.inference_mode():
        expected = reference(torch.tensor([ids])).logits[0]
    assert distance(engine.logits(ids), expected) <= TOLERANCE


def test_parameter_counts_match_the_tensors(make_tiny: Callable[..., Any]) -> None:
    for changes in ({}, {"mlp_only_layers": [1]}, {"attention_bias": True}):
        tiny = make_tiny(**changes)
        info = LocalEngine.load(str(tiny.folder)).info
        assert info.parameters == sum(t.numel() for t in tiny.tensors.values())


def test_the_reference_kernels_give_the_same_logits(tiny_int8: Any) -> None:
    ids = random_ids(70)
    script = (
        "import json, sys; from qcoder.model.local import LocalEngine; "
        "e = LocalEngine.load(sys.argv[1]); "
        "assert e._model.head.packed is None; "
        "print(json.dumps([e.logits(json.loads(sys.argv[2])[:n]).tolist() for n in (1, 70)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tiny_int8.folder), json.dumps(ids)],
        env={**os.environ, "QCODER_KERNELS": "reference"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    engine = LocalEngine.load(str(tiny_int8.folder))
    assert engine._model.head.packed is not None
    for expected, size in zip(json.loads(done.stdout), (1, 70), strict=True):
        assert distance(engine.logits(ids[:size]), torch.tensor(expected)) <= TOLERANCE
