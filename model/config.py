"""A model's shape, read from `config.json`.

Accepts both styles in use: the hub's (`num_experts`, `rope_theta`, `torch_dtype`) and the one that
transformers 5 writes (`num_local_experts`, `rope_parameters`, `dtype`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcoder.model.errors import CheckpointError

SUPPORTED = ("qwen3_moe",)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Shape of a Qwen3 Mixture-of-Experts decoder. `head_dim` is read, never derived."""

    model_type: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    num_experts: int
    experts_per_token: int
    expert_size: int
    dense_size: int
    dense_layers: frozenset[int]
    norm_topk_prob: bool
    rope_theta: float
    rms_norm_eps: float
    max_context: int
    tied_embeddings: bool
    attention_bias: bool
    eos_ids: tuple[int, ...]
    quantization: str


def load_config(folder: Path) -> ModelConfig:
    """Read and check `config.json`; raises `CheckpointError`."""
    path = folder / "config.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder}: no config.json; give the folder of a Hugging Face checkpoint"
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); download it again") from None
    try:
        return parse_config(data)
    except KeyError as error:
        raise CheckpointError(f"{path}: {error} is missing; download it again") from None
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from None


def parse_config(data: dict[str, Any]) -> ModelConfig:
    """The config of a decoded `config.json`."""
    kind = data.get("model_type")
    if kind not in SUPPORTED:
        raise ValueError(
            f"model_type {kind!r} is not supported by this version; supported: {', '.join(SUPPORTED)}"
        )
    rope = data.get("rope_parameters") or {}
    scaling = data.get("rope_scaling") or rope
    if scaling.get("rope_type", scaling.get("type", "default")) != "default":
        raise ValueError("rope scaling is not supported by this version; remove rope_scaling")
    if data.get("use_sliding_window"):
        raise ValueError("sliding window attention is not supported by this version")
    layers = int(data["num_hidden_layers"])
    step = int(data.get("decoder_sparse_step", 1))
    listed = frozenset(data.get("mlp_only_layers") or ())
    dense = frozenset(i for i in range(layers) if i in listed or (i + 1) % step)
    eos = data.get("eos_token_id")
    quantization = (data.get("quantization_config") or {}).get("quant_method", "none")
    if quantization not in ("none", "qcoder-int8"):
        raise ValueError(f"quantization {quantization!r} is not supported by this version")
    hidden, heads = int(data["hidden_size"]), int(data["num_attention_heads"])
    return ModelConfig(
        model_type=kind,
        vocab_size=int(data["vocab_size"]),
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=int(data["num_key_value_heads"]),
        head_dim=int(data.get("head_dim") or hidden // heads),
        num_experts=int(data.get("num_experts") or data["num_local_experts"]),
        experts_per_token=int(data["num_experts_per_tok"]),
        expert_size=int(data["moe_intermediate_size"]),
        dense_size=int(data.get("intermediate_size", 0)),
        dense_layers=dense,
        norm_topk_prob=bool(data.get("norm_topk_prob", False)),
        rope_theta=float(rope.get("rope_theta", data.get("rope_theta", 1e6))),
        rms_norm_eps=float(data.get("rms_norm_eps", 1e-6)),
        max_context=int(data["max_position_embeddings"]),
        tied_embeddings=bool(data.get("tie_word_embeddings", False)),
        attention_bias=bool(data.get("attention_bias", False)),
        eos_ids=tuple(eos) if isinstance(eos, list) else (() if eos is None else (int(eos),)),
        quantization=quantization,
    )
