import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from qcoder.model.checkpoint import Checkpoint
from qcoder.model.config import load_config
from qcoder.model.errors import CheckpointError
from qcoder.model.kv_cache import PrefixCache, Sequence
from qcoder.model.qwen3_moe import Qwen3Moe

TOLERANCE = 2e-5

SHAPES = {
    "plain": {},
    "tied": {"tie_word_embeddings": True},
    "dense_first": {"mlp_only_layers": [0]},
    "every_second_sparse": {"decoder_sparse_step": 2},
    "bias": {"attention_bias": True},
    "wide_heads": {"head_dim": 48, "num_attention_heads": 3, "num_key_value_heads": 1},
    "many_experts": {"num_experts": 33, "num_experts_per_tok": 8, "norm_topk_prob": False},
}


def tiny_checkpoint(folder: Path, **changes: object) -> Qwen3MoeForCausalLM:
    """A random checkpoint in hub form, and transformers' model of it."""
    torch.manual_seed(0)
    settings: dict[str, object] = {
        "vocab_size": 257, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "num_experts": 8,
        "num_experts_per_tok": 2, "moe_intermediate_size": 40, "norm_topk_prob": True,
        "max_position_embeddings": 512, "initializer_range": 0.1, "rope_theta": 1e5,
        "tie_word_embeddings": False,
    }  # fmt: skip
    model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**{**settings, **changes})).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name:
                p.uniform_(0.5, 1.5)
    model.save_pretrained(folder)
    return model


def load(folder: Path) -> Qwen3Moe:
    return Qwen3Moe.load(Checkpoint.open(folder), load_config(folder), torch.float32, 512)


def fresh(model: Qwen3Moe, capacity: int = 512) -> Sequence:
    c = model.config
    return Sequence(c.num_layers, c.num_kv_heads, c.head_dim, capacity, torch.float32)


def random_ids(size: int, seed: int = 1) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(257) for _ in range(size)]


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_equal_transformers_in_prefill_and_cached_decode(shape: str, tmp_path: Path) -> None:
    theirs = tiny_checkpoint(tmp_path, **SHAPES[shape])
    ours = load(tmp_path)
    ids = random_ids(63)
    with torch.inference_mode():
        expected = theirs(torch.tensor([ids])).logits[0]
        whole = ours.forward(ids, fresh(ours), all_logits=True)
        sequence = fresh(ours)
        parts = [ours.forward(ids[:40], sequence, all_logits=True)]
        parts += [ours.forward([i], sequence, all_logits=True) for i in ids[40:]]
    assert (whole - expected).abs().max() <= TOLERANCE
    assert (torch.cat(parts) - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 63, 100])
def test_chunked_prefill_equals_whole_prefill(chunk: int, tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path)
    model = load(tmp_path)
    ids = random_ids(100)
    sequence = fresh(model)
    with torch.inference_mode():
        whole = model.forward(ids, fresh(model), all_logits=True)
        parts = [
            model.forward(ids[i : i + chunk], sequence, all_logits=True)
            for i in range(0, len(ids), chunk)
        ]
    assert (torch.cat(parts) - whole).abs().max() <= TOLERANCE
    assert sequence.ids == ids


def test_reused_prefixes_give_the_logits_of_a_fresh_computation(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path)
    model = load(tmp_path)
    c = model.config
    cache = PrefixCache(c.num_layers, c.num_kv_heads, c.head_dim, 512, torch.float32, 3)
    rng = random.Random(5)
    ids = random_ids(90)
    reused_total = 0
    with torch.inference_mode():
        for step in range(25):
            at = rng.randrange(len(ids))
            ids = [*ids[:at], *random_ids(rng.randint(0, 5), step), *ids[at + rng.randint(0, 4) :]]
            sequence, reused = cache.acquire(ids)
            logits = model.forward(ids[reused:], sequence)
            expected = model.forward(ids, fresh(model))
            assert (logits - expected).abs().max() <= TOLERANCE
            cache.check_integrity()
            reused_total += reused
    assert reused_total > 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be read"),
        (lambda f: (f / "config.json").write_text('{"model_type": "gpt2"}'), "not supported"),
        (lambda f: (f / "model.safetensors").unlink(), "file is missing"),
        (lambda f: cut(f / "model.safetensors"), "damaged or cut short"),
        (lambda f: save_file({}, f / "model.safetensors"), "is missing"),
        (lambda f: change(f, vocab_size=300), "do not belong together"),
        (lambda f: change(f, rope_scaling={"rope_type": "yarn"}), "rope scaling"),
    ],
)
def test_damaged_checkpoint_says_what_is_wrong(damage, message: str, tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path)
    damage(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path)


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def change(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
