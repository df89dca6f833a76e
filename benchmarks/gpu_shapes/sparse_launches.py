"""Launches of the sparse attention of prompts of 256k tokens, without their content."""

from __future__ import annotations

import torch

from qcoder.kernels.gpu.attention_sparse import attention_sparse

TOTAL, TOKENS = 262_144, 8_192


def sparse(heads: int, kv_heads: int, head_dim: int) -> None:
    """The last tokens of a prompt."""

    def heads_of(*shape: int) -> torch.Tensor:
        return torch.empty(*shape, head_dim, dtype=torch.bfloat16, device="meta")

    attention_sparse(heads_of(TOKENS, heads), heads_of(kv_heads, TOTAL), heads_of(kv_heads, TOTAL))


SPARSE_LAUNCHES = {
    "sparse prefill 30b": lambda: sparse(32, 4, 128),
    "sparse prefill next": lambda: sparse(16, 2, 256),
}
