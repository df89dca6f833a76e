"""Depthwise causal convolution over tokens, with the inputs before the first one as history.

y[t, c] = sum over j of weight[c, j] * x[t - kernel + 1 + j, c]
"""

from __future__ import annotations

import torch
from torch import Tensor

from qcoder.kernels.dispatch import choose


def causal_conv_reference(x: Tensor, weight: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
    """Output [tokens, channels] and the new history [kernel - 1, channels]; token by token.

    x: [tokens, channels]; weight: [channels, kernel]; history: [kernel - 1, channels].
    """
    window, out = history.float(), torch.empty_like(x)
    for t in range(x.shape[0]):
        window = torch.cat([window, x[t : t + 1].float()])
        out[t] = (window * weight.float().T).sum(0)
        window = window[1:]
    return out, window.to(history.dtype)


def causal_conv_cpu(x: Tensor, weight: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
    """The same as one product a tap over all tokens: no transposition, no padding."""
    tokens, taps = x.shape[0], weight.shape[1]
    joined = torch.cat([history, x])
    out = joined[:tokens] * weight[:, 0]
    for tap in range(1, taps):
        out = torch.addcmul(out, joined[tap : tap + tokens], weight[:, tap])
    # A copy: a view would keep the whole chunk alive.
    return out, joined[tokens:].clone()


causal_conv = choose(cpu=causal_conv_cpu, reference=causal_conv_reference)
