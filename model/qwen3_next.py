"""Qwen3-Next and Qwen3-Coder-Next: gated DeltaNets with a gated attention every few layers.

Norms are stored around zero (x * (1 + w)), except the one inside a DeltaNet; a quarter of each head
rotates; every MLP has a shared expert beside the chosen ones. The draft layer is `mtp.py`.
"""

from __future__ import annotations

from typing import Any

import torch

from qcoder.model.attention import load_attention
from qcoder.model.checkpoint import Checkpoint
from qcoder.model.config import LinearAttention, ModelConfig, sparse_fields
from qcoder.model.decoder import Decoder, Layer, Mixer, load_decoder, norm
from qcoder.model.delta_net import load_delta_net
from qcoder.model.linear import WeightReader
from qcoder.model.mlp import load_mlp
from qcoder.model.rope import read_partial

ZERO_CENTRED = 1.0
LINEAR, FULL = "linear_attention", "full_attention"


class Qwen3Next:
    """An `Architecture`."""

    @staticmethod
    def fields(data: dict[str, Any]) -> dict[str, Any]:
        """Which layers are linear, and the shapes that only they have."""
        bias, heads = bool(data.get("attention_bias", False)), int(data["num_attention_heads"])
        head_dim = int(data.get("head_dim") or int(data["hidden_size"]) // heads)
        return {
            "attention_bias": bias,
            "output_bias": bias,
            "attention_gate": True,
            "rotary_dim": int(head_dim * read_partial(data, 0.25)),
            "shared_expert_size": int(data["shared_expert_intermediate_size"]),
            "linear_attention": LinearAttention(
                key_heads=int(data["linear_num_key_heads"]),
                value_heads=int(data["linear_num_value_heads"]),
                key_dim=int(data["linear_key_head_dim"]),
                value_dim=int(data["linear_value_head_dim"]),
                conv_size=int(data["linear_conv_kernel_dim"]),
            ),
            "linear_layers": linear_layers(data),
            **sparse_fields(data),
        }

    @staticmethod
    def load(
        checkpoint: Checkpoint, config: ModelConfig, dtype: torch.dtype, max_context: int
    ) -> Decoder:
        """Read every tensor once; raises `CheckpointError`."""
        reader = WeightReader(checkpoint, dtype)
        return load_decoder(reader, config, max_context, load_layer, ZERO_CENTRED)


def linear_layers(data: dict[str, Any]) -> frozenset[int]:
    """From `layer_types` (transformers 5) or `full_attention_interval` (the hub)."""
    layers, types = int(data["num_hidden_layers"]), data.get("layer_types")
    if types is None:
        interval = int(data.get("full_attention_interval", 4))
        return frozenset(i for i in range(layers) if (i + 1) % interval)
    if len(types) != layers or not set(types) <= {LINEAR, FULL}:
        raise ValueError(f"layer_types {types!r} do not name {layers} layers of a known kind")
    return frozenset(i for i, kind in enumerate(types) if kind == LINEAR)


def load_layer(reader: WeightReader, config: ModelConfig, index: int) -> Layer:
    """One layer of a checkpoint."""
    c, stem = config, f"layers.{index}."
    before = sum(i < index for i in c.linear_layers)
    mixer: Mixer
    if index in c.linear_layers:
        mixer = load_delta_net(reader, c, stem + "linear_attn.", before)
    else:
        mixer = load_attention(reader, c, stem + "self_attn.", index - before, ZERO_CENTRED)
    return Layer(
        input_norm=norm(reader, stem + "input_layernorm", c.hidden_size, ZERO_CENTRED),
        mixer=mixer,
        post_norm=norm(reader, stem + "post_attention_layernorm", c.hidden_size, ZERO_CENTRED),
        mlp=load_mlp(reader, c, stem + "mlp.", index not in c.dense_layers),
    )
