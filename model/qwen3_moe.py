"""Qwen3 Mixture-of-Experts (Qwen3 technical report, arXiv 2505.09388): attention with norms of q
and k, and experts or one dense MLP a layer.
"""

from __future__ import annotations

from typing import Any

import torch

from qcoder.model.attention import load_attention
from qcoder.model.checkpoint import Checkpoint
from qcoder.model.config import ModelConfig, sparse_fields
from qcoder.model.decoder import Decoder, Layer, load_decoder, norm
from qcoder.model.linear import WeightReader
from qcoder.model.mlp import load_mlp


class Qwen3Moe:
    """An `Architecture`."""

    @staticmethod
    def fields(data: dict[str, Any]) -> dict[str, Any]:
        """The experts, and what `Qwen3` has too."""
        bias = bool(data.get("attention_bias", False))
        return {
            "attention_bias": bias,
            "output_bias": bias,
            "qk_norm": True,
            **sparse_fields(data),
        }

    @staticmethod
    def load(
        checkpoint: Checkpoint, config: ModelConfig, dtype: torch.dtype, max_context: int
    ) -> Decoder:
        """Read every tensor once; raises `CheckpointError`."""
        return load_decoder(WeightReader(checkpoint, dtype), config, max_context, load_layer)


def load_layer(reader: WeightReader, config: ModelConfig, index: int) -> Layer:
    """One layer of a checkpoint; also that of the dense architectures."""
    stem, hidden = f"layers.{index}.", config.hidden_size
    return Layer(
        input_norm=norm(reader, stem + "input_layernorm", hidden),
        mixer=load_attention(reader, config, stem + "self_attn.", index),
        post_norm=norm(reader, stem + "post_attention_layernorm", hidden),
        mlp=load_mlp(reader, config, stem + "mlp.", index not in config.dense_layers),
    )
