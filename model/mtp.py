"""The further layer of Qwen3-Next that predicts the token after the next one (`mtp.` tensors).

    x_t = fc(norm(embed(token_{t+1})) | norm(h_t))        h_t: what the model's head reads
    h'_t = norm(layer(x_0 ... x_t)),    logits of token_{t+2} = h'_t @ head^T

Its own h' takes the place of h for tokens further ahead. The layer is one attention with experts, and has
keys and values of its own; embedding and head are the model's. A draft costs a forty-eighth of a step
of the big model, its check by the big model makes it exact. Nothing here is loaded unless asked for: the
layer's experts take memory like any other layer's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from qcoder.kernels.attention import causal_mask
from qcoder.kernels.rms_norm import rms_norm
from qcoder.model.attention import load_attention
from qcoder.model.checkpoint import Checkpoint
from qcoder.model.decoder import Decoder, Layer, Step, norm
from qcoder.model.kv_cache import CacheShape, Sequence
from qcoder.model.linear import Linear, WeightReader
from qcoder.model.mlp import load_mlp
from qcoder.model.qwen3_next import ZERO_CENTRED

PREFIX = "mtp."


@dataclass(frozen=True, slots=True, eq=False)
class Mtp:
    """The draft layer on top of a decoder."""

    decoder: Decoder
    embedding_norm: Tensor
    hidden_norm: Tensor
    join: Linear  # 2 * hidden -> hidden
    layer: Layer
    norm: Tensor
    cache_shape: CacheShape

    def forward(self, hidden: Tensor, ids: list[int], sequence: Sequence) -> tuple[Tensor, Tensor]:
        """Logits [tokens, vocab] of the tokens behind `ids`, and h' [tokens, hidden] for more.

        hidden: [tokens, hidden], what the head reads (or h') at the tokens before `ids`. `sequence`
        has `cache_shape` and holds all earlier pairs; these are appended.
        """
        eps, start = self.decoder.config.rms_norm_eps, len(sequence)
        end = start + len(ids)
        sequence.reserve(end)
        step = Step(sequence, self.decoder.rotary.rows(start, end), causal_mask(len(ids), end))
        embedded = F.embedding(torch.tensor(ids), self.decoder.embedding)
        both = (
            rms_norm(embedded, self.embedding_norm, eps),
            rms_norm(hidden, self.hidden_norm, eps),
        )
        x = self.layer(self.join(torch.cat(both, dim=-1)), step, eps)
        sequence.extend(ids)
        x = rms_norm(x, self.norm, eps)
        return self.decoder.head(x).float(), x


def load_mtp(checkpoint: Checkpoint, decoder: Decoder) -> Mtp | None:
    """The draft layer of the checkpoint that `decoder` was loaded from, None if it has none."""
    is_next = decoder.config.model_type == "qwen3_next"
    if not is_next or not any(name.startswith(PREFIX) for name in checkpoint.files):
        return None
    c, shape, stem = decoder.config, decoder.cache_shape, PREFIX + "layers.0."
    reader, hidden = WeightReader(checkpoint, decoder.embedding.dtype), c.hidden_size

    def zero_centred(name: str) -> Tensor:
        return norm(reader, name, hidden, ZERO_CENTRED)

    layer = Layer(
        input_norm=zero_centred(stem + "input_layernorm"),
        mixer=load_attention(reader, c, stem + "self_attn.", 0, ZERO_CENTRED),
        post_norm=zero_centred(stem + "post_attention_layernorm"),
        mlp=load_mlp(reader, c, stem + "mlp.", sparse=True),
    )
    return Mtp(
        decoder=decoder,
        embedding_norm=zero_centred(PREFIX + "pre_fc_norm_embedding"),
        hidden_norm=zero_centred(PREFIX + "pre_fc_norm_hidden"),
        join=reader.linear([(PREFIX + "fc", hidden)], 2 * hidden),
        layer=layer,
        norm=zero_centred(PREFIX + "norm"),
        cache_shape=CacheShape(
            1, c.num_kv_heads, c.head_dim, shape.max_tokens, shape.dtype, rotary=shape.rotary
        ),
    )
