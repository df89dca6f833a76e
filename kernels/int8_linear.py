"""Matrix-vector products with int8 weights and float32 activations: y = (x @ rows^T) * scale.

The packed int8 product of torch rounds activations to bfloat16, and its float32 matrix-vector
product reaches a third of the memory bandwidth. A quantized embedding bag does better than both: it
sums weighted table rows, `sum_i x[i] * table[i]`, with uint8 rows, float32 weights and float32 sums
in FBGEMM's vector code. So the matrix is kept transposed, a table row an input channel; each row
ends in its own scale and bias as two float32, here 1 and -128, so that the sums are over exact
integers and the scale of the output row is applied after.

One token, weights from memory, one thread beside other work, us (relative error):

    [out, in]       float32   bfloat16    int8 of torch   int8 here
    [640, 384]          122   77 (3e-3)       14 (3e-3)   14 (5e-7)
    [8192, 384]        1328  1002           166           140
    2 experts of 256    300                               65

Each token reads the matrix again, so beyond `FEW_TOKENS` a float32 matrix is the better one. Whole
forward pass of the default model under the same conditions, float32 and here, ms: 1 token 5.7 and
2.5, 4 tokens 9.8 and 4.2, 8 tokens 13.2 and 5.7, 24 tokens 15.5 and 11.3, 64 tokens 31.8 and 26.4.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from qcoder.kernels.dispatch import backend, choose

FEW_TOKENS = 24
"""Most tokens for which this is faster than a float32 matrix."""

ZERO = 128
"""The byte that means 0."""

TAIL_BYTES = 8


def int8_supported() -> bool:
    """Whether to pack at all: FBGEMM is built for x86 only, and the reference needs no copies."""
    return (
        backend() != "reference"
        and "fbgemm" in torch.backends.quantized.supported_engines
        and hasattr(torch.ops.quantized, "embedding_bag_byte_rowwise_offsets")
    )


def pack_int8(rows: Tensor) -> Tensor:
    """Int8 rows [out, in] as a table [in, out + 8] uint8."""
    out_size, in_size = rows.shape
    table = torch.empty(in_size, out_size + TAIL_BYTES, dtype=torch.uint8, device=rows.device)
    # Flipping the sign bit adds 128. The transpose is made on its own: torch blocks only that.
    table[:, :out_size] = rows.view(torch.uint8).bitwise_xor(ZERO).t().contiguous()
    table[:, out_size:] = torch.tensor([1.0, -float(ZERO)]).view(torch.uint8)
    return table


@lru_cache(maxsize=64)
def _indices(bags: int, size: int) -> tuple[Tensor, Tensor]:
    """Each of `bags` sums the rows 0 to `size`: indices [bags * size] and offsets [bags]."""
    return torch.arange(size).repeat(bags), torch.arange(0, bags * size, size)


def weighted_rows(table: Tensor, indices: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """Sums of weighted integer rows: [bags, out] float32.

    table: from `pack_int8`; indices, weights: [entries]; a bag is the entries from its offset on.
    """
    y: Tensor = torch.ops.quantized.embedding_bag_byte_rowwise_offsets(
        table, indices, offsets, False, 0, False, weights, None, False
    )
    return y


def int8_linear_reference(x: Tensor, table: Tensor, scale: Tensor) -> Tensor:
    """x: [tokens, in] float32, table: from `pack_int8`, scale: [out]; returns [tokens, out]."""
    rows = table[:, :-TAIL_BYTES].to(torch.float64) - ZERO
    return (x.double() @ rows * scale.double()).float()


def int8_linear_cpu(x: Tensor, table: Tensor, scale: Tensor) -> Tensor:
    """The same as embedding bags, one a token."""
    indices, offsets = _indices(*x.shape)
    return weighted_rows(table, indices, offsets, x.reshape(-1)).mul_(scale)


int8_linear = choose(cpu=int8_linear_cpu, reference=int8_linear_reference)
