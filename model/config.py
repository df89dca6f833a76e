"""A model's shape, read from `config.json`.

Accepts both styles in use: the hub's (`num_experts`, `rope_theta`, `torch_dtype`) and the one that
transformers 5 writes (`num_local_experts`, `rope_parameters`, `dtype`). What only one architecture
says is read by its own file (`Architecture.fields`); the rotary part is `rope.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qcoder.kernels.rotary import Yarn
from qcoder.model.errors import CheckpointError
from qcoder.model.formats import quant_method
from qcoder.model.json_file import id_list, read_json
from qcoder.model.registry import ARCHITECTURES, network_class
from qcoder.model.rope import extended_length, read_theta, read_yarn

SIZE_LIMITS = {
    "num_hidden_layers": 1024,
    "hidden_size": 1 << 17,
    "intermediate_size": 1 << 20,
    "moe_intermediate_size": 1 << 20,
    "num_attention_heads": 4096,
    "num_key_value_heads": 4096,
    "head_dim": 4096,
    "num_experts": 1 << 14,
    "num_local_experts": 1 << 14,
    "vocab_size": 1 << 23,
    "max_position_embeddings": 1 << 30,
}
"""Ten and more times what the largest models have."""


@dataclass(frozen=True, slots=True)
class LinearAttention:
    """Shape of the gated DeltaNet layers: a key head serves `value_heads / key_heads` value heads."""

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    conv_size: int

    def __post_init__(self) -> None:
        if min(self.key_heads, self.key_dim, self.value_dim, self.conv_size) < 1 or (
            self.value_heads < 1 or self.value_heads % self.key_heads
        ):
            raise ValueError(
                f"{self.value_heads} linear value heads over {self.key_heads} key heads do not "
                "fit; config.json is damaged, download it again"
            )

    @property
    def key_size(self) -> int:
        """Width of all key heads."""
        return self.key_heads * self.key_dim

    @property
    def value_size(self) -> int:
        """Width of all value heads."""
        return self.value_heads * self.value_dim

    @property
    def channels(self) -> int:
        """Width of q, k and v together, which is what the convolution runs over."""
        return 2 * self.key_size + self.value_size


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Shape of a decoder of the Qwen family.

    `head_dim` is read where it is given, not derived. `dense_layers` have one MLP of `dense_size`
    in place of experts, `linear_layers` a gated DeltaNet in place of attention. `max_context` is
    what the rotary table is meant for, YaRN included. `rotary_dim` is the part of a head that
    rotates; `attention_bias` is that of q, k and v.
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rotary_dim: int
    dense_size: int
    rope_theta: float
    yarn: Yarn | None
    rms_norm_eps: float
    max_context: int
    tied_embeddings: bool
    attention_bias: bool
    output_bias: bool
    eos_ids: tuple[int, ...]
    dtype: str
    quantization: str
    num_experts: int = 0
    experts_per_token: int = 0
    expert_size: int = 0
    shared_expert_size: int = 0
    dense_layers: frozenset[int] = frozenset()
    norm_topk_prob: bool = False
    qk_norm: bool = True
    attention_gate: bool = False
    linear_attention: LinearAttention | None = None
    linear_layers: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        sizes = (self.vocab_size, self.hidden_size, self.num_layers, self.num_heads)
        if min(*sizes, self.num_kv_heads, self.head_dim, self.max_context) < 1:
            raise ValueError("a size is not positive; config.json is damaged, download it again")
        if self.num_heads % self.num_kv_heads or self.rotary_dim % 2:
            raise ValueError(
                f"{self.num_heads} heads of {self.head_dim} over {self.num_kv_heads} key-value "
                "heads do not fit; config.json is damaged, download it again"
            )
        if self._sparse_layers and not 0 < self.experts_per_token <= self.num_experts:
            raise ValueError(
                f"{self.experts_per_token} of {self.num_experts} experts cannot be chosen; "
                "config.json is damaged, download it again"
            )

    @property
    def rotary_key(self) -> str:
        """What rotated keys depend on besides weights and tokens; part of every cache key."""
        y = self.yarn
        scaling = "" if y is None else f" yarn {y.factor:g} {y.original_context} {y.details}"
        return f"theta {self.rope_theta:g} dim {self.rotary_dim}{scaling}"

    @property
    def parameters(self) -> int:
        """All parameters of the checkpoint, without layers that only draft."""
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
        hidden, sparse, linear = self.hidden_size, self._sparse_layers, len(self.linear_layers)
        mixers = (self.num_layers - linear) * self._attention + linear * self._delta_net
        dense = 3 * hidden * self.dense_size * len(self.dense_layers)
        shared = sparse * (3 * hidden * self.shared_expert_size + hidden)
        router = hidden * self.num_experts * sparse
        embeddings = self.vocab_size * hidden * (1 if self.tied_embeddings else 2)
        norms = (2 * self.num_layers + 1) * hidden
        return (
            embeddings
            + mixers
            + dense
            + router
            + norms
            + (shared if self.shared_expert_size else 0)
        )

    @property
    def _attention(self) -> int:
        """Parameters of one attention layer."""
        hidden, q = self.hidden_size, self.num_heads * self.head_dim
        qkv = (2 * q if self.attention_gate else q) + 2 * self.num_kv_heads * self.head_dim
        biases = (qkv if self.attention_bias else 0) + (hidden if self.output_bias else 0)
        return hidden * (qkv + q) + biases + (2 * self.head_dim if self.qk_norm else 0)

    @property
    def _delta_net(self) -> int:
        """Parameters of one gated DeltaNet layer."""
        if (d := self.linear_attention) is None:
            return 0
        projections = d.channels + 2 * d.value_size + 2 * d.value_heads
        small = d.channels * d.conv_size + 2 * d.value_heads + d.value_dim
        return self.hidden_size * projections + small


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
    except (TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(f"{path}: {error}") from None


def parse_config(data: dict[str, Any]) -> ModelConfig:
    """The config of a decoded `config.json`; raises KeyError, TypeError or ValueError."""
    kind = data.get("model_type")
    if kind not in ARCHITECTURES:
        raise ValueError(
            f"model_type {kind!r} is not supported by this version; "
            f"supported: {', '.join(ARCHITECTURES)}"
        )
    check_sizes(data)
    if data.get("use_sliding_window") or "sliding_attention" in (data.get("layer_types") or ()):
        raise ValueError("sliding window attention is not supported by this version")
    if data.get("hidden_act", "silu") != "silu":
        raise ValueError(f"activation {data['hidden_act']!r} is not supported; only silu is")
    quantization = quant_method(data)
    hidden, heads = int(data["hidden_size"]), int(data["num_attention_heads"])
    head_dim, layers = int(data.get("head_dim") or hidden // heads), int(data["num_hidden_layers"])
    yarn, trained = read_yarn(data), int(data["max_position_embeddings"])
    common: dict[str, Any] = {
        "model_type": kind,
        "vocab_size": int(data["vocab_size"]),
        "hidden_size": hidden,
        "num_layers": layers,
        "num_heads": heads,
        "num_kv_heads": int(data.get("num_key_value_heads") or heads),
        "head_dim": head_dim,
        "rotary_dim": head_dim,
        "dense_size": int(data.get("intermediate_size") or 0),
        "dense_layers": frozenset(range(layers)),
        "rope_theta": read_theta(data),
        "yarn": yarn,
        "rms_norm_eps": float(data.get("rms_norm_eps", 1e-6)),
        "max_context": trained if yarn is None else max(trained, extended_length(yarn)),
        "tied_embeddings": bool(data.get("tie_word_embeddings", False)),
        "eos_ids": id_list(data.get("eos_token_id")),
        "dtype": str(data.get("dtype") or data.get("torch_dtype") or "bfloat16"),
        "quantization": quantization,
    }
    return ModelConfig(**common | network_class(kind).fields(data))


def check_sizes(data: Mapping[str, Any]) -> None:
    """Refuse sizes beyond any model, before anything is made of them; raises ValueError."""
    for key, limit in SIZE_LIMITS.items():
        value = data.get(key)
        if isinstance(value, int | float) and not 0 <= value <= limit:
            raise ValueError(f"{key} {value} is absurd (at most {limit}); download it again")


def sparse_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `ModelConfig` about experts, which the sparse architectures name alike."""
    layers = int(data["num_hidden_layers"])
    step, listed = int(data.get("decoder_sparse_step", 1)), set(data.get("mlp_only_layers") or ())
    found = data.get("num_experts")
    experts = int(data["num_local_experts"] if found is None else found)
    return {
        "num_experts": experts,
        "experts_per_token": int(data["num_experts_per_tok"]),
        "expert_size": int(data["moe_intermediate_size"]),
        "dense_layers": frozenset(
            i for i in range(layers) if not experts or i in listed or (i + 1) % step
        ),
        "norm_topk_prob": bool(data.get("norm_topk_prob", False)),
    }


def extended(config: ModelConfig, data: dict[str, Any], factor: float) -> ModelConfig:
    """The config with YaRN by `factor` on the length that the model was trained for."""
    trained = config.yarn.original_context if config.yarn else int(data["max_position_embeddings"])
    if factor < 1:
        raise ValueError(f"yarn factor {factor} must be at least 1")
    if factor == 1:
        return replace(config, yarn=None, max_context=trained)
    yarn = Yarn(factor, trained)
    return replace(config, yarn=yarn, max_context=extended_length(yarn))
