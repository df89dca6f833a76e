"""Reads an exported model folder back into a trainable network: the inverse of `export.py`.

The hub's names become the stacked parameters of `network.py` in float32 (q, k and v in one matrix,
gate and up of all experts in one tensor), int8 rows are dequantized. What int8 rounded away stays
away, so a network that is loaded and exported again gives the same file. The loss-free router bias
is not part of an export; it starts at zero.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from qcoder.model.checkpoint import Checkpoint
from qcoder.model.config import ModelConfig, load_config
from qcoder.model.errors import CheckpointError
from qcoder.training.network import Network, NetworkConfig

_Read: TypeAlias = Callable[..., Tensor]


def load_network(folder: Path, max_length: int) -> Network:
    """The network of a checkpoint folder, float32, ready for rows of up to `max_length` tokens.

    Raises `CheckpointError` when the files are damaged or the architecture cannot be trained here.
    """
    config = network_config(folder, load_config(folder))
    with Checkpoint.open(folder) as checkpoint:
        weights = stacked_tensors(checkpoint, config)
    network = Network(config, max_length)
    parameters = dict(network.named_parameters())
    assert parameters.keys() == weights.keys(), "network.py and weights.py name different tensors"
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    return network


def network_config(folder: Path, config: ModelConfig) -> NetworkConfig:
    """The trainable shape of a checkpoint's config; raises `CheckpointError` if there is none."""
    reasons = {
        f"its model_type is {config.model_type!r}": config.model_type != "qwen3_moe",
        "it has dense layers": bool(config.dense_layers),
        "its attention has biases": config.attention_bias,
        "its router weights are not renormalized": not config.norm_topk_prob,
        "input and output embeddings differ": not config.tied_embeddings,
        "its context is extended by YaRN": config.yarn is not None,
    }
    if found := [reason for reason, holds in reasons.items() if holds]:
        raise CheckpointError(
            f"{folder}: cannot be trained here: {', '.join(found)}; "
            "use the default model or one exported by qcoder.training.export"
        )
    return NetworkConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        num_experts=config.num_experts,
        num_experts_per_tok=config.experts_per_token,
        moe_intermediate_size=config.expert_size,
        rope_theta=config.rope_theta,
        rms_norm_eps=config.rms_norm_eps,
    )


def stacked_tensors(checkpoint: Checkpoint, config: NetworkConfig) -> dict[str, Tensor]:
    """Float32 tensors of a checkpoint by the parameter names of `Network`."""

    def read(name: str, *shape: int) -> Tensor:
        return checkpoint.float_tensor(name, shape, torch.float32)

    hidden = config.hidden_size
    out = {
        "embedding": read("model.embed_tokens.weight", config.vocab_size, hidden),
        "norm": read("model.norm.weight", hidden),
    }
    for index in range(config.num_hidden_layers):
        for name, tensor in _layer(read, config, f"model.layers.{index}.").items():
            out[f"layers.{index}.{name}"] = tensor
    return out


def _layer(read: _Read, config: NetworkConfig, hub: str) -> dict[str, Tensor]:
    c, hidden, width = config, config.hidden_size, config.moe_intermediate_size
    q_size, kv_size = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
    attn, mlp = hub + "self_attn.", hub + "mlp."
    sizes = {"q": q_size, "k": kv_size, "v": kv_size}
    experts = [f"{mlp}experts.{e}." for e in range(c.num_experts)]
    return {
        "input_norm": read(hub + "input_layernorm.weight", hidden),
        "post_norm": read(hub + "post_attention_layernorm.weight", hidden),
        "q_norm": read(attn + "q_norm.weight", c.head_dim),
        "k_norm": read(attn + "k_norm.weight", c.head_dim),
        "qkv": torch.cat(
            [read(f"{attn}{n}_proj.weight", size, hidden) for n, size in sizes.items()]
        ),
        "out": read(attn + "o_proj.weight", hidden, q_size),
        "router": read(mlp + "gate.weight", c.num_experts, hidden),
        "gate_up": torch.stack(
            [
                torch.cat([read(f"{e}{n}_proj.weight", width, hidden) for n in ("gate", "up")])
                for e in experts
            ]
        ),
        "down": torch.stack([read(e + "down_proj.weight", hidden, width) for e in experts]),
    }
