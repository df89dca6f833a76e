"""The part of a layer that works on each token alone: one SwiGLU, or a router and many.

dense    y = down(silu(gate x) * up x)
sparse   y = sum over the top-k experts e of w_e * expert_e(x)  [+ sigmoid(s x) * shared(x)]
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from qcoder.kernels.moe import route
from qcoder.model.config import ModelConfig
from qcoder.model.linear import Experts, Linear, WeightReader


@dataclass(frozen=True, slots=True, eq=False)
class DenseMlp:
    """One SwiGLU; gate and up are one matrix, gate rows first."""

    gate_up: Linear  # hidden -> 2 * size
    down: Linear

    @property
    def size_bytes(self) -> int:
        """Memory of both matrices."""
        return self.gate_up.size_bytes + self.down.size_bytes

    def __call__(self, x: Tensor) -> Tensor:
        """x: [tokens, hidden]."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


@dataclass(frozen=True, slots=True, eq=False)
class SharedExpert:
    """An expert that every token passes through, weighted by a gate of its own."""

    mlp: DenseMlp
    gate: Tensor  # [1, hidden]

    @property
    def size_bytes(self) -> int:
        """Memory of the expert and its gate."""
        return self.mlp.size_bytes + self.gate.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        """x: [tokens, hidden]."""
        return torch.sigmoid(F.linear(x, self.gate)) * self.mlp(x)


@dataclass(frozen=True, slots=True, eq=False)
class SparseMlp:
    """A router [experts, hidden] and its experts; `top_k` of them see a token."""

    router: Tensor
    experts: Experts
    top_k: int
    renormalize: bool
    shared: SharedExpert | None = None

    @property
    def size_bytes(self) -> int:
        """Memory of all experts and the router."""
        shared = 0 if self.shared is None else self.shared.size_bytes
        return self.router.nbytes + self.experts.size_bytes + shared

    def __call__(self, x: Tensor) -> Tensor:
        """x: [tokens, hidden]."""
        weights, chosen = route(x, self.router, self.top_k, self.renormalize)
        y = self.experts(x, weights, chosen)
        return y if self.shared is None else y + self.shared(x)


def load_dense(reader: WeightReader, stem: str, hidden: int, size: int) -> DenseMlp:
    """The SwiGLU whose tensors' names begin with `stem`."""
    gate_up = reader.linear([(stem + "gate_proj", size), (stem + "up_proj", size)], hidden)
    return DenseMlp(gate_up, reader.linear([(stem + "down_proj", hidden)], size))


def load_mlp(
    reader: WeightReader, config: ModelConfig, stem: str, sparse: bool
) -> DenseMlp | SparseMlp:
    """The MLP of one layer."""
    c, hidden = config, config.hidden_size
    if not sparse:
        return load_dense(reader, stem, hidden, c.dense_size)
    shared = None
    if c.shared_expert_size:
        shared = SharedExpert(
            load_dense(reader, stem + "shared_expert.", hidden, c.shared_expert_size),
            reader.tensor(stem + "shared_expert_gate.weight", 1, hidden),
        )
    stems = [f"{stem}experts.{e}." for e in range(c.num_experts)]
    return SparseMlp(
        router=reader.tensor(stem + "gate.weight", c.num_experts, hidden),
        experts=reader.experts(stems, hidden, c.expert_size),
        top_k=c.experts_per_token,
        renormalize=c.norm_topk_prob,
        shared=shared,
    )
