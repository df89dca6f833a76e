"""A model's shape, read from `config.json`.

Accepts both styles in use: the hub's (`num_experts`, `rope_theta`, `torch_dtype`) and the one that
transformers 5 writes (`num_local_experts`, `rope_parameters`, `dtype`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qcoder.kernels.rotary import Yarn
from qcoder.model.errors import CheckpointError
from qcoder.model.registry import ARCHITECTURES

QUANTIZATIONS = ("none", "qcoder-int8")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Shape of a Qwen3 Mixture-of-Experts decoder.

    `head_dim` is read where it is given, not derived. `dense_layers` have one MLP of `dense_size`
    in place of experts. `max_context` is what the rotary table is meant for, YaRN included.
    """

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
    yarn: Yarn | None
    rms_norm_eps: float
    max_context: int
    tied_embeddings: bool
    attention_bias: bool
    eos_ids: tuple[int, ...]
    dtype: str
    quantization: str

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads or self.head_dim % 2:
            raise ValueError(
                f"{self.num_heads} heads of {self.head_dim} over {self.num_kv_heads} key-value "
                "heads do not fit; config.json is damaged, download it again"
            )
        if len(self.dense_layers) < self.num_layers and not (
            0 < self.experts_per_token <= self.num_experts
        ):
            raise ValueError(
                f"{self.experts_per_token} of {self.num_experts} experts cannot be chosen; "
                "config.json is damaged, download it again"
            )

    @property
    def parameters(self) -> int:
        """All parameters of the checkpoint."""
        return self._outside_experts + self._sparse_layers * self.num_experts * self._expert

    @property
    def active_parameters(self) -> int:
        """Parameters that one token is multiplied with, the head included, the embedding not."""
        embedding = 0 if self.tied_embeddings else self.vocab_size * self.hidden_size
        experts = self._sparse_layers * self.experts_per_token * self._expert
        return self._outside_experts - embedding + experts

    @property
    def _sparse_layers(self) -> int:
        return self.num_layers - len(self.dense_layers)

    @property
    def _expert(self) -> int:
        return 3 * self.hidden_size * self.expert_size

    @property
    def _outside_experts(self) -> int:
        hidden, heads = self.hidden_size, self.num_heads + 2 * self.num_kv_heads
        layer = hidden * self.head_dim * (heads + self.num_heads) + 2 * hidden + 2 * self.head_dim
        if self.attention_bias:
            layer += heads * self.head_dim + hidden
        dense = 3 * hidden * self.dense_size * len(self.dense_layers)
        router = hidden * self.num_experts * self._sparse_layers
        embeddings = self.vocab_size * hidden * (1 if self.tied_embeddings else 2)
        return embeddings + self.num_layers * layer + dense + router + hidden


def load_config(folder: Path, yarn_factor: float | None = None) -> ModelConfig:
    """Read and check `config.json`; raises `CheckpointError`.

    `yarn_factor` replaces the checkpoint's own context extension; 1 takes it away.
    """
    path = folder / "config.json"
    data = read_json(
        path, f"{folder}: no config.json; give the folder of a Hugging Face checkpoint"
    )
    try:
        config = parse_config(data)
        return config if yarn_factor is None else extended(config, data, yarn_factor)
    except KeyError as error:
        raise CheckpointError(f"{path}: {error} is missing; download it again") from None
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"{path}: {error}") from None


def read_json(path: Path, when_missing: str) -> dict[str, Any]:
    """A JSON object from a file of a checkpoint; raises `CheckpointError`."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(when_missing) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); download it again") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: holds no JSON object; download it again")
    return data


def parse_config(data: dict[str, Any]) -> ModelConfig:
    """The config of a decoded `config.json`; raises KeyError, TypeError or ValueError."""
    kind = data.get("model_type")
    if kind not in ARCHITECTURES:
        raise ValueError(
            f"model_type {kind!r} is not supported by this version; "
            f"supported: {', '.join(ARCHITECTURES)}"
        )
    if data.get("use_sliding_window"):
        raise ValueError("sliding window attention is not supported by this version")
    if data.get("hidden_act", "silu") != "silu":
        raise ValueError(f"activation {data['hidden_act']!r} is not supported; only silu is")
    quantization = (data.get("quantization_config") or {}).get("quant_method", "none")
    if quantization not in QUANTIZATIONS:
        raise ValueError(
            f"quantization {quantization!r} is not supported by this version; use the "
            "unquantized checkpoint"
        )
    layers = int(data["num_hidden_layers"])
    step, listed = int(data.get("decoder_sparse_step", 1)), set(data.get("mlp_only_layers") or ())
    hidden, heads = int(data["hidden_size"]), int(data["num_attention_heads"])
    eos = data.get("eos_token_id")
    yarn = _yarn(data)
    trained = int(data["max_position_embeddings"])
    experts = data.get("num_experts")
    return ModelConfig(
        model_type=kind,
        vocab_size=int(data["vocab_size"]),
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=int(data["num_key_value_heads"]),
        head_dim=int(data.get("head_dim") or hidden // heads),
        num_experts=int(data["num_local_experts"] if experts is None else experts),
        experts_per_token=int(data["num_experts_per_tok"]),
        expert_size=int(data["moe_intermediate_size"]),
        dense_size=int(data.get("intermediate_size") or 0),
        dense_layers=frozenset(i for i in range(layers) if i in listed or (i + 1) % step),
        norm_topk_prob=bool(data.get("norm_topk_prob", False)),
        rope_theta=float(_rope(data).get("rope_theta") or data.get("rope_theta") or 1e4),
        yarn=yarn,
        rms_norm_eps=float(data.get("rms_norm_eps", 1e-6)),
        max_context=trained if yarn is None else max(trained, _extended_length(yarn)),
        tied_embeddings=bool(data.get("tie_word_embeddings", False)),
        attention_bias=bool(data.get("attention_bias", False)),
        eos_ids=id_list(eos),
        dtype=str(data.get("dtype") or data.get("torch_dtype") or "bfloat16"),
        quantization=quantization,
    )


def extended(config: ModelConfig, data: dict[str, Any], factor: float) -> ModelConfig:
    """The config with YaRN by `factor` on the length that the model was trained for."""
    trained = config.yarn.original_context if config.yarn else int(data["max_position_embeddings"])
    if factor < 1:
        raise ValueError(f"yarn factor {factor} must be at least 1")
    if factor == 1:
        return replace(config, yarn=None, max_context=trained)
    yarn = Yarn(factor, trained)
    return replace(config, yarn=yarn, max_context=_extended_length(yarn))


def id_list(value: Any) -> tuple[int, ...]:
    """Token ids that may be given as one number, a list, or not at all."""
    if value is None:
        return ()
    return tuple(int(v) for v in value) if isinstance(value, list) else (int(value),)


def _rope(data: dict[str, Any]) -> dict[str, Any]:
    return data.get("rope_parameters") or data.get("rope_scaling") or {}


def _extended_length(yarn: Yarn) -> int:
    return int(yarn.original_context * yarn.factor)


def _yarn(data: dict[str, Any]) -> Yarn | None:
    rope = _rope(data)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "yarn":
        raise ValueError(f"rope scaling {kind!r} is not supported by this version; only yarn is")
    if rope.get("mscale") or rope.get("mscale_all_dim"):
        raise ValueError("yarn with mscale is not supported by this version")
    original = rope.get("original_max_position_embeddings") or data["max_position_embeddings"]
    attention_factor = rope.get("attention_factor")
    return Yarn(
        factor=float(rope["factor"]),
        original_context=int(original),
        beta_fast=float(rope.get("beta_fast") or 32),
        beta_slow=float(rope.get("beta_slow") or 1),
        attention_factor=None if attention_factor is None else float(attention_factor),
        truncate=bool(rope.get("truncate", True)),
    )
