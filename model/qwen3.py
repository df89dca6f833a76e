"""Qwen3, dense (Qwen3 technical report, arXiv 2505.09388): `qwen3_moe.py` without experts."""

from __future__ import annotations

from typing import Any

import torch

from qcoder.model.checkpoint import Checkpoint
from qcoder.model.config import ModelConfig
from qcoder.model.decoder import Decoder, load_decoder
from qcoder.model.linear import WeightReader
from qcoder.model.qwen3_moe import load_layer


class Qwen3:
    """An `Architecture`."""

    @staticmethod
    def fields(data: dict[str, Any]) -> dict[str, Any]:
        """One MLP in every layer; norms of q and k in every attention."""
        bias = bool(data.get("attention_bias", False))
        return {"attention_bias": bias, "output_bias": bias, "qk_norm": True}

    @staticmethod
    def load(
        checkpoint: Checkpoint, config: ModelConfig, dtype: torch.dtype, max_context: int
    ) -> Decoder:
        """Read every tensor once; raises `CheckpointError`."""
        return load_decoder(WeightReader(checkpoint, dtype), config, max_context, load_layer)
