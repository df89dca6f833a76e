"""The gated DeltaNet layer of the hybrid models (Yang et al., arXiv 2412.06464).

    q, k, v, z = qkvz(x);  b, a = ba(x)
    q, k, v = silu(causal_conv(q | k | v))
    o = gated_delta_rule(q, k, v, decay = -exp(A_log) * softplus(a + dt_bias), beta = sigmoid(b))
    y = out(norm(o) * silu(z))

What it remembers has a fixed size: a matrix a head and the last inputs of the convolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from qcoder.kernels.causal_conv import causal_conv
from qcoder.kernels.delta_net import gated_delta_rule
from qcoder.kernels.rms_norm import rms_norm
from qcoder.model.config import LinearAttention, ModelConfig
from qcoder.model.decoder import Step, norm
from qcoder.model.kv_cache import LayerState
from qcoder.model.linear import Linear, WeightReader


@dataclass(frozen=True, slots=True, eq=False)
class DeltaNet:
    """One layer; `slot` is its place among the layers that have a state.

    The outputs of `qkvz` lie by key head: its q, its k, then v and z of the value heads that it
    serves; those of `ba` likewise, b before a.
    """

    slot: int
    shape: LinearAttention
    qkvz: Linear
    ba: Linear
    conv: Tensor  # [channels, kernel]
    rate: Tensor  # [value_heads] float32: -exp(A_log)
    dt_bias: Tensor  # [value_heads] float32
    norm: Tensor  # [value_dim]
    out: Linear
    eps: float

    @property
    def size_bytes(self) -> int:
        """Memory of the matrices and the convolution."""
        linears = (self.qkvz, self.ba, self.out)
        return self.conv.nbytes + sum(linear.size_bytes for linear in linears)

    def __call__(self, x: Tensor, step: Step) -> Tensor:
        """x: [tokens, hidden]; the sequence gets the state behind the last token."""
        s, tokens = self.shape, x.shape[0]
        served = s.value_heads // s.key_heads * s.value_dim
        groups = self.qkvz(x).view(tokens, s.key_heads, -1)
        q, k, v, z = torch.split(groups, [s.key_dim, s.key_dim, served, served], dim=-1)
        b, a = (
            half.reshape(tokens, s.value_heads)
            for half in self.ba(x).view(tokens, s.key_heads, -1).chunk(2, dim=-1)
        )
        state = step.sequence.state(self.slot)
        mixed = torch.cat([part.reshape(tokens, -1) for part in (q, k, v)], dim=-1)
        mixed, history = causal_conv(mixed, self.conv, state.history)
        q, k, v = torch.split(F.silu(mixed), [s.key_size, s.key_size, s.value_size], dim=-1)
        y, memory = gated_delta_rule(
            q.view(tokens, s.key_heads, s.key_dim),
            k.view(tokens, s.key_heads, s.key_dim),
            v.view(tokens, s.value_heads, s.value_dim),
            self.rate * F.softplus(a.float() + self.dt_bias),
            torch.sigmoid(b),
            state.memory,
        )
        step.sequence.set_state(self.slot, LayerState(memory, history))
        gate = F.silu(z.reshape(y.shape).float())
        y = (rms_norm(y, self.norm, self.eps) * gate).to(x.dtype)
        return self.out(y.flatten(1))


def load_delta_net(reader: WeightReader, config: ModelConfig, stem: str, slot: int) -> DeltaNet:
    """The layer whose tensors' names begin with `stem`."""
    shape, hidden = config.linear_attention, config.hidden_size
    assert shape is not None, "only configs with linear attention have such layers"
    wide = 2 * (shape.key_size + shape.value_size)
    conv = reader.tensor(stem + "conv1d.weight", shape.channels, 1, shape.conv_size)
    return DeltaNet(
        slot=slot,
        shape=shape,
        qkvz=reader.linear([(stem + "in_proj_qkvz", wide)], hidden),
        ba=reader.linear([(stem + "in_proj_ba", 2 * shape.value_heads)], hidden),
        conv=conv.squeeze(1),
        rate=-reader.tensor(stem + "A_log", shape.value_heads).float().exp(),
        dt_bias=reader.tensor(stem + "dt_bias", shape.value_heads).float(),
        norm=norm(reader, stem + "norm", shape.value_dim),
        out=reader.linear([(stem + "out_proj", hidden)], shape.value_size),
        eps=config.rms_norm_eps,
    )
