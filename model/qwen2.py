"""Qwen2 and Qwen2.5(-Coder), dense (Qwen2.5-Coder technical report, arXiv 2409.12186).

Biases on q, k and v, no norms on them.
"""

from __future__ import annotations

from typing import Any

import torch

from qcoder.model.checkpoint import Checkpoint
from qcoder.model.config import ModelConfig
from qcoder.model.decoder import Decoder, load_decoder
from qcoder.model.linear import WeightReader
from qcoder.model.qwen3_moe import load_layer


class Qwen2:
    """An `Architecture`."""

    @staticmethod
    def fields(data: dict[str, Any]) -> dict[str, Any]:
        """The biases are part of the architecture, config.json does not name them."""
        return {"attention_bias": True, "output_bias": False, "qk_norm": False}

    @staticmethod
    def load(
        checkpoint: Checkpoint, config: ModelConfig, dtype: torch.dtype, max_context: int
    ) -> Decoder:
        """Read every tensor once; raises `CheckpointError`."""
        return load_decoder(WeightReader(checkpoint, dtype), config, max_context, load_layer)
