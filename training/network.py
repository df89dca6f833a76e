"""The trainable form of the default model: a Qwen3 Mixture-of-Experts decoder.

Same mathematics and tensor names as `Qwen3MoeForCausalLM` (q/k RMSNorm a head, grouped-query
attention, SwiGLU experts, softmax router with renormalized top-k, tied embeddings), written for
training throughput on a CPU: experts are stacked, tokens are sorted by expert, the loss is chunked.
The engine never imports this file; `export.py` writes what it reads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

QUERY_BLOCK = 128
LOSS_CHUNK = 512  # rows of logits at a time, so that they stay in the CPU's cache


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Shape of the network; field names follow the hub's `config.json`."""

    vocab_size: int = 8192
    hidden_size: int = 384
    num_hidden_layers: int = 6
    num_attention_heads: int = 6
    num_key_value_heads: int = 2
    head_dim: int = 64
    num_experts: int = 8
    num_experts_per_tok: int = 2
    moe_intermediate_size: int = 256
    rope_theta: float = 1e5
    rms_norm_eps: float = 1e-6


SIZES = {
    # 19.8 M parameters, 5.9 M active beside the embedding: what two CPU cores can train.
    "nano": NetworkConfig(),
    # 60.9 M, 13.2 M active: needs a GPU to train.
    "mini": NetworkConfig(
        vocab_size=16384,
        hidden_size=512,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_experts=24,
        num_experts_per_tok=4,
        moe_intermediate_size=160,
    ),
    # Learns indentation and keywords in a minute; only to try the way from text to weights.
    "smoke": NetworkConfig(
        vocab_size=2048,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        head_dim=32,
        num_experts=4,
        moe_intermediate_size=128,
    ),
}


def rotary_table(config: NetworkConfig, length: int) -> Tensor:
    """cos and sin of every position, stacked: [2, length, head_dim]."""
    exponent = torch.arange(0, config.head_dim, 2, dtype=torch.float64) / config.head_dim
    angles = torch.outer(torch.arange(length, dtype=torch.float64), config.rope_theta**-exponent)
    angles = torch.cat([angles, angles], dim=-1)
    return torch.stack([angles.cos(), angles.sin()]).float()


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotary embedding in the rotate-half convention; x: [batch, heads, tokens, head_dim]."""
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
    return x * table[0] + turned * table[1]


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm in float32, result in the dtype of x."""
    y = x.float()
    y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + eps)
    return (y * weight.float()).to(x.dtype)


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Grouped-query causal attention: q [batch, heads, tokens, d]; k, v [batch, kv heads, tokens, d].

    On a CPU by blocks of queries, each against the keys that it may see: matrix products over the
    query heads of a group at once, about twice as fast there as torch's fused kernel with its
    backward pass. Elsewhere torch's kernel.
    """
    if not q.is_cpu:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    batch, heads, tokens, size = q.shape
    kv_heads = k.shape[1]
    groups, repeat = batch * kv_heads, heads // kv_heads
    q = (q * size**-0.5).reshape(groups, repeat, tokens, size)
    k, v = k.reshape(groups, tokens, size), v.reshape(groups, tokens, size)
    outputs = []
    for start in range(0, tokens, QUERY_BLOCK):
        end = min(start + QUERY_BLOCK, tokens)
        rows = q[:, :, start:end].reshape(groups, -1, size)
        scores = torch.bmm(rows, k[:, :end].mT).view(groups, repeat, end - start, end).float()
        seen = torch.ones(end - start, end, dtype=torch.bool, device=q.device).tril(start)
        weights = torch.softmax(scores.masked_fill(~seen, -torch.inf), dim=-1).to(q.dtype)
        mixed = torch.bmm(weights.view(groups, -1, end), v[:, :end])
        outputs.append(mixed.view(groups, repeat, end - start, size))
    return torch.cat(outputs, dim=2).view(batch, heads, tokens, size)


class Permute(torch.autograd.Function):
    """Row permutation whose backward is a gather, not a scatter-add."""

    @staticmethod
    def forward(ctx, x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:  # noqa: D102
        ctx.save_for_backward(inverse)
        return x[order]

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:  # noqa: D102
        (inverse,) = ctx.saved_tensors
        return grad[inverse], None, None


class Layer(nn.Module):
    """One decoder layer: attention and sparse MLP."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        c, self.config = config, config
        q_size, kv_size = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
        self.input_norm = nn.Parameter(torch.ones(c.hidden_size))
        self.post_norm = nn.Parameter(torch.ones(c.hidden_size))
        self.q_norm = nn.Parameter(torch.ones(c.head_dim))
        self.k_norm = nn.Parameter(torch.ones(c.head_dim))
        self.qkv = nn.Parameter(torch.empty(q_size + 2 * kv_size, c.hidden_size))
        self.out = nn.Parameter(torch.empty(c.hidden_size, q_size))
        self.router = nn.Parameter(torch.empty(c.num_experts, c.hidden_size))
        self.gate_up = nn.Parameter(
            torch.empty(c.num_experts, 2 * c.moe_intermediate_size, c.hidden_size)
        )
        self.down = nn.Parameter(torch.empty(c.num_experts, c.hidden_size, c.moe_intermediate_size))
        # Loss-free balance: added to router scores for the choice of experts only.
        self.register_buffer("router_bias", torch.zeros(c.num_experts))

    def attention(self, x: Tensor, table: Tensor) -> Tensor:
        """x + attention(norm(x)); x: [batch, tokens, hidden]."""
        c = self.config
        batch, tokens, _ = x.shape
        qkv = F.linear(rms_norm(x, self.input_norm, c.rms_norm_eps), self.qkv)
        q_heads, kv_heads = c.num_attention_heads, c.num_key_value_heads
        q, k, v = qkv.view(batch, tokens, q_heads + 2 * kv_heads, c.head_dim).split(
            [q_heads, kv_heads, kv_heads], dim=2
        )
        q = rotate(rms_norm(q, self.q_norm, c.rms_norm_eps).transpose(1, 2).float(), table)
        k = rotate(rms_norm(k, self.k_norm, c.rms_norm_eps).transpose(1, 2).float(), table)
        y = causal_attention(q.to(x.dtype), k.to(x.dtype), v.transpose(1, 2))
        return x + F.linear(y.transpose(1, 2).reshape(batch, tokens, -1), self.out)

    def route(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normed input, chosen experts and weights [tokens, k], and the balance loss (a scalar)."""
        c = self.config
        h = rms_norm(x, self.post_norm, c.rms_norm_eps).view(-1, c.hidden_size)
        scores = torch.softmax(F.linear(h, self.router).float(), dim=-1)
        chosen = torch.topk(scores.detach() + self.router_bias, c.num_experts_per_tok).indices
        weights = scores.gather(1, chosen)
        weights = weights / weights.sum(-1, keepdim=True)
        load = F.one_hot(chosen, c.num_experts).float().sum((0, 1)) / chosen.numel()
        balance = c.num_experts * (load * scores.mean(0)).sum()
        return h, chosen, weights, balance

    def experts(self, h: Tensor, chosen: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted expert outputs [tokens, hidden] and tokens an expert [experts]."""
        flat = chosen.flatten()
        order = flat.argsort()
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(order.numel(), device=order.device)
        counts = torch.bincount(flat, minlength=self.config.num_experts)
        copies = h.unsqueeze(1).expand(-1, chosen.shape[1], -1).reshape(order.numel(), -1)
        rows = Permute.apply(copies, order, inverse)
        outputs = []
        for expert, part in enumerate(rows.split(counts.tolist())):
            gate, up = F.linear(part, self.gate_up[expert]).chunk(2, dim=-1)
            outputs.append(F.linear(F.silu(gate) * up, self.down[expert]))
        # Undo the sort, then combine the k outputs of each token.
        y = Permute.apply(torch.cat(outputs), inverse, order).view(*chosen.shape, -1)
        return (y * weights.unsqueeze(-1).to(y.dtype)).sum(1), counts

    def grouped_experts(self, h: Tensor, chosen: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """What `experts` computes, in two grouped matrix products: static shapes, for a GPU."""
        flat = chosen.flatten()
        order = flat.argsort()
        inverse = order.argsort()
        counts = F.one_hot(flat, self.config.num_experts).sum(0)
        ends = counts.cumsum(0).to(torch.int32)
        copies = h.unsqueeze(1).expand(-1, chosen.shape[1], -1).reshape(order.numel(), -1)
        rows = Permute.apply(copies, order, inverse)
        gate, up = F.grouped_mm(rows, self.gate_up.mT, offs=ends).chunk(2, dim=-1)
        y = F.grouped_mm(F.silu(gate) * up, self.down.mT, offs=ends)
        y = Permute.apply(y, inverse, order).view(*chosen.shape, -1)
        return (y * weights.unsqueeze(-1).to(y.dtype)).sum(1), counts


class Network(nn.Module):
    """Decoder with tied embeddings; call it with token ids to get the loss."""

    def __init__(self, config: NetworkConfig, max_length: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.empty(config.vocab_size, config.hidden_size))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.Parameter(torch.ones(config.hidden_size))
        self.register_buffer("table", rotary_table(config, max_length), persistent=False)
        self.attention = Layer.attention
        self.route = Layer.route
        self.experts = Layer.experts
        self.loss_chunk = loss_chunk
        self.reset()

    def reset(self) -> None:
        """Normal weights; output projections scaled by depth."""
        depth = (2 * self.config.num_hidden_layers) ** -0.5
        for name, p in self.named_parameters():
            if p.dim() > 1:
                scale = depth if name.endswith(("out", "down")) else 1.0
                nn.init.normal_(p, std=0.02 * scale)

    def group_experts(self) -> None:
        """Use grouped matrix products for the experts."""
        self.experts = Layer.grouped_experts

    def compile(self) -> None:
        """Compile the parts with static shapes; the expert loop depends on the data."""
        if self.experts is Layer.grouped_experts:
            self.experts = torch.compile(Layer.grouped_experts, dynamic=False)
        self.attention = torch.compile(Layer.attention, dynamic=False)
        self.route = torch.compile(Layer.route, dynamic=False)
        self.loss_chunk = torch.compile(loss_chunk, dynamic=False)

    def hidden(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Final hidden states, summed balance loss, expert loads [layers, experts]."""
        x = F.embedding(ids, self.embedding)
        table = self.table[:, : ids.shape[1]]
        balance, loads = x.new_zeros((), dtype=torch.float32), []
        for layer in self.layers:
            x = self.attention(layer, x, table)
            h, chosen, weights, layer_balance = self.route(layer, x)
            y, counts = self.experts(layer, h, chosen, weights)
            x = x + y.view_as(x)
            balance = balance + layer_balance
            loads.append(counts)
        return rms_norm(x, self.norm, self.config.rms_norm_eps), balance, torch.stack(loads)

    def forward(self, ids: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean cross entropy (target -1 is ignored), balance loss, expert loads."""
        x, balance, loads = self.hidden(ids)
        x, targets = x.view(-1, x.shape[-1]), targets.reshape(-1)
        total = x.new_zeros((), dtype=torch.float32)
        for part, goal in zip(x.split(LOSS_CHUNK), targets.split(LOSS_CHUNK), strict=True):
            total = total + self.loss_chunk(part, self.embedding, goal)
        return total / (targets >= 0).sum().clamp(min=1), balance, loads


def loss_chunk(x: Tensor, embedding: Tensor, targets: Tensor) -> Tensor:
    """Summed cross entropy of one chunk, plus z-loss 1e-4."""
    logits = F.linear(x, embedding).float()
    log_z = torch.logsumexp(logits, dim=-1)
    picked = logits.gather(1, targets.clamp(min=0).unsqueeze(1)).squeeze(1)
    mask = (targets >= 0).float()
    return ((log_z - picked + 1e-4 * log_z.square()) * mask).sum()
