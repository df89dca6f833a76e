"""Tiny random checkpoints, written once a session in the shape that the hub uses."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from qcoder.model.quant import quantize_int8

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_middle|>",
    "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
)  # fmt: skip
VOCAB = 320

BASE: dict[str, Any] = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_experts": 5,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "max_position_embeddings": 512,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "rms_norm_eps": 1e-6,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "attention_bias": False,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "eos_token_id": 300,
    "torch_dtype": "float32",
}


@dataclass(frozen=True)
class Tiny:
    """A checkpoint folder and what was written into it."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Tensor shapes by hub name."""
    c, hidden = config, config["hidden_size"]
    q, kv = (c[n] * c["head_dim"] for n in ("num_attention_heads", "num_key_value_heads"))
    out: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (c["vocab_size"], hidden),
        "model.norm.weight": (hidden,),
    }
    if not c["tie_word_embeddings"]:
        out["lm_head.weight"] = (c["vocab_size"], hidden)
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        out |= {
            p + n + ".weight": (hidden,) for n in ("input_layernorm", "post_attention_layernorm")
        }
        if "full_attention_interval" in c and (i + 1) % c["full_attention_interval"]:
            out |= {p + f"linear_attn.{n}": s for n, s in delta_net_shapes(c).items()}
        else:
            gate = 2 if c["model_type"] == "qwen3_next" else 1
            out |= {p + f"self_attn.{n}_norm.weight": (c["head_dim"],) for n in "qk"}
            for n, size in (("q", gate * q), ("k", kv), ("v", kv)):
                out[p + f"self_attn.{n}_proj.weight"] = (size, hidden)
                if c["attention_bias"]:
                    out[p + f"self_attn.{n}_proj.bias"] = (size,)
            out[p + "self_attn.o_proj.weight"] = (hidden, q)
            if c["attention_bias"]:
                out[p + "self_attn.o_proj.bias"] = (hidden,)
        dense = i in c["mlp_only_layers"] or (i + 1) % c["decoder_sparse_step"] != 0
        if not dense:
            out[p + "mlp.gate.weight"] = (c["num_experts"], hidden)
        stems = ["mlp."] if dense else [f"mlp.experts.{e}." for e in range(c["num_experts"])]
        width = c["intermediate_size"] if dense else c["moe_intermediate_size"]
        for stem in stems:
            out |= {p + stem + f"{n}_proj.weight": (width, hidden) for n in ("gate", "up")}
            out[p + stem + "down_proj.weight"] = (hidden, width)
        if shared := c.get("shared_expert_intermediate_size"):
            stem = p + "mlp.shared_expert"
            out |= {f"{stem}.{n}_proj.weight": (shared, hidden) for n in ("gate", "up")}
            out |= {f"{stem}.down_proj.weight": (hidden, shared)}
            out |= {f"{stem}_gate.weight": (1, hidden)}
    return out


def delta_net_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Tensor shapes of one linear-attention layer."""
    c, hidden = config, config["hidden_size"]
    keys = c["linear_num_key_heads"] * c["linear_key_head_dim"]
    heads = c["linear_num_value_heads"]
    values = heads * c["linear_value_head_dim"]
    return {
        "in_proj_qkvz.weight": (2 * keys + 2 * values, hidden),
        "in_proj_ba.weight": (2 * heads, hidden),
        "conv1d.weight": (2 * keys + values, 1, c["linear_conv_kernel_dim"]),
        "A_log": (heads,),
        "dt_bias": (heads,),
        "norm.weight": (c["linear_value_head_dim"],),
        "out_proj.weight": (hidden, values),
    }


def random_tensors(config: dict[str, Any], seed: int = 0) -> dict[str, Tensor]:
    """Normal weights wide enough that logits and routes differ clearly; norms around 1."""
    generator = torch.Generator().manual_seed(seed)
    out = {}
    for name, shape in shapes(config).items():
        noise = torch.randn(shape, generator=generator)
        out[name] = 1 + 0.1 * noise if len(shape) == 1 else noise * 0.2
    return out


def byte_tokenizer() -> Tokenizer:
    """Byte-level BPE: 256 bytes, a few merges, special tokens behind (ids 300...)."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate(alphabet)}
    merges = [("r", "e"), ("re", "t"), ("Ġ", "x"), ("s", "e"), ("se", "l"), ("sel", "f")]
    for a, b in merges:
        vocab[a + b] = len(vocab)
    for i in range(len(vocab), 300):
        vocab[f"\N{CYRILLIC SMALL LETTER ZHE}{i}"] = i
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(n, special=True, normalized=False) for n in SPECIAL])
    return tokenizer


@pytest.fixture(autouse=True, scope="module")
def without_compiled_kernels() -> Iterator[None]:
    """Exact weights are compared here; the compiled kernels round activations to int8.

    They are held to their plain versions in tests/kernels, and `test_tiled_layers.py` uses them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QCODER_KERNELS", "torch")
        yield


@pytest.fixture(scope="session")
def make_tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Tiny]:
    """Write a checkpoint; keyword arguments change its config.json."""

    def make(seed: int = 0, **changes: Any) -> Tiny:
        config = {**BASE, **changes}
        folder = tmp_path_factory.mktemp("tiny")
        tensors = random_tensors(config, seed)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(config))
        byte_tokenizer().save(str(folder / "tokenizer.json"))
        return Tiny(folder, config, tensors)

    return make


@pytest.fixture(scope="session")
def tiny_int8(make_tiny: Callable[..., Tiny]) -> Tiny:
    """The same in the format of the default model: int8 rows, tied embeddings."""
    tiny = make_tiny(
        seed=9, tie_word_embeddings=True, quantization_config={"quant_method": "qcoder-int8"}
    )
    tensors = {}
    for name, tensor in tiny.tensors.items():
        tensors[name] = tensor
        if tensor.dim() == 2 and not name.endswith("mlp.gate.weight"):
            tensors[name], tensors[name + "_scale"] = quantize_int8(tensor)
    save_file(tensors, tiny.folder / "model.safetensors", metadata={"format": "pt"})
    return Tiny(tiny.folder, tiny.config, tensors)


@pytest.fixture(scope="session")
def tiny_next(make_tiny: Callable[..., Tiny]) -> Tiny:
    """A hybrid: two layers with gated DeltaNets, then one with attention."""
    return make_tiny(
        seed=5,
        model_type="qwen3_next",
        full_attention_interval=3,
        partial_rotary_factor=0.25,
        shared_expert_intermediate_size=13,
        linear_num_key_heads=2,
        linear_num_value_heads=6,
        linear_key_head_dim=9,
        linear_value_head_dim=7,
        linear_conv_kernel_dim=4,
    )


@pytest.fixture(scope="session")
def tiny(make_tiny: Callable[..., Tiny]) -> Tiny:
    """The plain one; tests must not write into its folder."""
    return make_tiny()
