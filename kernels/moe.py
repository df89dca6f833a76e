"""Sparse SwiGLU experts: router, then the chosen experts' weighted sum.

    y = sum over the top-k experts e of w_e * down_e(silu(gate_e x) * up_e x)

Gate and up projection of an expert are one matrix [2 * size, hidden], gate rows first.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FEW_TOKENS = 4
"""Up to here the chosen experts' matrices are read in place; beyond, tokens are sorted."""


def route(x: Tensor, router: Tensor, top_k: int, renormalize: bool) -> tuple[Tensor, Tensor]:
    """Weights and experts [tokens, top_k]: softmax in float32, then top-k, then renormalized."""
    scores = torch.softmax(F.linear(x, router).float(), dim=-1)
    weights, chosen = torch.topk(scores, top_k, dim=-1)
    if renormalize:
        weights = weights / weights.sum(-1, keepdim=True)
    return weights.to(x.dtype), chosen


def experts(x: Tensor, gate_up: Tensor, down: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    """Weighted expert outputs [tokens, hidden].

    x: [tokens, hidden]; gate_up: [experts, 2 * size, hidden]; down: [experts, hidden, size];
    weights, chosen: [tokens, top_k].
    """
    if x.shape[0] <= FEW_TOKENS:
        return _few(x, gate_up, down, weights, chosen)
    return _sorted(x, gate_up, down, weights, chosen)


def _few(x: Tensor, gate_up: Tensor, down: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    rows = weights.tolist()
    for t, picks in enumerate(chosen.tolist()):
        for slot, e in enumerate(picks):
            gate, up = torch.mv(gate_up[e], x[t]).chunk(2)
            out[t].addmv_(down[e], F.silu(gate).mul_(up), alpha=rows[t][slot])
    return out


def _sorted(x: Tensor, gate_up: Tensor, down: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    top_k = chosen.shape[1]
    flat = chosen.flatten()
    order = flat.argsort()
    counts = torch.bincount(flat, minlength=gate_up.shape[0]).tolist()
    rows = x[order // top_k]
    outputs = []
    for e, part in enumerate(torch.split(rows, counts)):
        if part.shape[0]:
            gate, up = F.linear(part, gate_up[e]).chunk(2, dim=-1)
            outputs.append(F.linear(F.silu(gate) * up, down[e]))
    y = torch.empty_like(rows)
    y[order] = torch.cat(outputs)
    return (y.view(-1, top_k, x.shape[1]) * weights.unsqueeze(-1)).sum(1)


def experts_reference(
    x: Tensor, gate_up: Tensor, down: Tensor, weights: Tensor, chosen: Tensor
) -> Tensor:
    """The same, one token and one expert at a time in float32."""
    out = torch.zeros(x.shape)
    for t in range(x.shape[0]):
        for slot in range(chosen.shape[1]):
            e = int(chosen[t, slot])
            gate, up = (gate_up[e].float() @ x[t].float()).chunk(2)
            out[t] += weights[t, slot].float() * (down[e].float() @ (F.silu(gate) * up))
    return out.to(x.dtype)
