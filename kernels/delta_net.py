"""The gated delta rule (Yang et al., arXiv 2412.06464): attention with a memory of fixed size.

A head's memory S: [key_dim, value_dim] maps keys to values. Each token lets it fade and corrects what it
says about the token's key:

    S_t = a_t S_{t-1} + k_t b_t (v_t - a_t S_{t-1}^T k_t)^T,    o_t = S_t^T q_t,    a_t = exp(decay_t)

One token is two small products a head. For many, tokens are taken in chunks of C. With A_t the product
of a from the chunk's start to t, the corrections u of a chunk solve a unit lower triangular system

    (I + L) u = b (v - A S^T k),    L[t, s] = b_t (k_t . k_s) A_t / A_s  for s < t

and then  o_t = A_t S^T q_t + sum over s <= t of (q_t . k_s) (A_t / A_s) u_s,
S' = A_C S + sum over s of (A_C / A_s) k_s u_s^T: matrix products instead of C dependent steps (Yang et al.,
arXiv 2406.06484). The quotients are computed from sums of logarithms, whose differences never overflow.

The compiled kernels (`native/delta.inc`) take tokens one by one after all: with a few columns of S in the first
cache a step costs next to nothing beside the layer's products, and its result depends on no chunk.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qcoder.kernels.dispatch import choose
from qcoder.kernels.native_library import DELTA_COLUMNS, DELTA_KEYS, native

CHUNK = 64
"""Tokens a chunk: the triangular part grows with its square, the number of steps falls."""

L2_EPS = 1e-6


def unit(x: Tensor) -> Tensor:
    """Vectors of length one over the last dimension, float32."""
    x = x.float()
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + L2_EPS)


def gated_delta_rule_reference(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, memory: Tensor
) -> tuple[Tensor, Tensor]:
    """Output [tokens, value_heads, value_dim] and the new memory; a token and a head at a time.

    q, k: [tokens, key_heads, key_dim], any length: they are made unit vectors, q divided by
    sqrt(key_dim) then; v: [tokens, value_heads, value_dim]; decay (logarithms, <= 0) and beta:
    [tokens, value_heads]; memory: [value_heads, key_dim, value_dim] float32, not changed. A key
    head serves neighbouring value heads. Computed in float32.
    """
    heads, group = v.shape[1], v.shape[1] // k.shape[1]
    out, memory = torch.empty(v.shape), memory.clone()
    q, k = unit(q) / q.shape[-1] ** 0.5, unit(k)
    for t in range(v.shape[0]):
        for h in range(heads):
            key, faded = k[t, h // group], memory[h] * decay[t, h].float().exp()
            correction = (v[t, h].float() - key @ faded) * beta[t, h].float()
            memory[h] = faded + torch.outer(key, correction)
            out[t, h] = q[t, h // group] @ memory[h]
    return out.to(v.dtype), memory


def gated_delta_rule_cpu(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, memory: Tensor
) -> tuple[Tensor, Tensor]:
    """The same: in the compiled kernels, else one step for one token and chunks for more."""
    fits = v.shape[2] % DELTA_COLUMNS == 0 and k.shape[2] <= DELTA_KEYS
    compiled = native(torch.get_num_threads()) if fits else None
    if compiled is not None:
        return compiled.delta(q, k, v, decay, beta, memory)
    return gated_delta_rule_torch(q, k, v, decay, beta, memory)


def gated_delta_rule_torch(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, memory: Tensor
) -> tuple[Tensor, Tensor]:
    """The same: one step for one token, chunks for more."""
    group, kind = v.shape[1] // k.shape[1], v.dtype
    q = (unit(q) * q.shape[-1] ** -0.5).repeat_interleave(group, dim=1)
    k = unit(k).repeat_interleave(group, dim=1)
    v, decay, beta = v.float(), decay.float(), beta.float()
    if v.shape[0] == 1:
        out, memory = _one_token(q[0], k[0], v[0], decay[0], beta[0], memory)
        return out.unsqueeze(0).to(kind), memory
    parts = []
    for start in range(0, v.shape[0], CHUNK):
        at = slice(start, start + CHUNK)
        part, memory = _chunk(q[at], k[at], v[at], decay[at], beta[at], memory)
        parts.append(part)
    return torch.cat(parts).to(kind), memory


def _one_token(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, memory: Tensor
) -> tuple[Tensor, Tensor]:
    """q, k: [heads, key_dim]; v: [heads, value_dim]; decay, beta: [heads]."""
    memory = memory * decay.exp()[:, None, None]
    known = torch.bmm(k.unsqueeze(1), memory).squeeze(1)
    correction = (v - known) * beta.unsqueeze(-1)
    memory.baddbmm_(k.unsqueeze(2), correction.unsqueeze(1))
    return torch.bmm(q.unsqueeze(1), memory).squeeze(1), memory


def _chunk(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, memory: Tensor
) -> tuple[Tensor, Tensor]:
    """q, k: [C, heads, key_dim]; v: [C, heads, value_dim]; decay, beta: [C, heads]."""
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    # log A: [heads, C]. In float64, since neighbours in a long sum differ by little of it.
    fades = decay.t().double().cumsum(-1)
    beta = beta.t().unsqueeze(-1)
    size = fades.shape[-1]
    later = torch.ones(size, size, dtype=torch.bool).triu(1)
    # exp of -inf, so that the half where A_t / A_s would overflow is zero.
    quotients = (fades.unsqueeze(-1) - fades.unsqueeze(-2)).float()
    quotients = quotients.masked_fill_(later, -torch.inf).exp_()
    faded = fades.float().exp().unsqueeze(-1)
    keys = k.transpose(1, 2)
    system = torch.bmm(k * beta, keys) * quotients  # its diagonal is taken as one
    wanted = (v - torch.bmm(k * faded, memory)) * beta
    corrections = torch.linalg.solve_triangular(system, wanted, upper=False, unitriangular=True)
    out = torch.bmm(q * faded, memory) + torch.bmm(torch.bmm(q, keys) * quotients, corrections)
    rest = (fades[:, -1:] - fades).float().exp().unsqueeze(1)
    memory = memory * faded[:, -1:] + torch.bmm(keys * rest, corrections)
    return out.transpose(0, 1), memory


gated_delta_rule = choose(cpu=gated_delta_rule_cpu, reference=gated_delta_rule_reference)
