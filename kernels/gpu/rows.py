"""What the products of few tokens share: a block of rows of a matrix times the tokens.

One token (`row_product`): memory is the limit, and next to it the instructions a weight takes. Threads
lie along the rows, 16 bytes of weights each, so that an input serves many rows; sums across threads
come once, at the end. Several tokens (`rows_product`) take matrix products with 16 columns.

An int4 value becomes a float without a conversion, which takes four times an addition: its bits
are put below the point of 1.0, four or seven places down, and what the one adds to a sum is taken off
at the end. Half of the values need no shift.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def low_or_high(words, ones, PLANE: tl.constexpr):
    """1 + n / 2048 (planes 0, 3, 5, 7) or 1 + n / 128 (the others) of the nibbles n of a plane.

    ones: the bits of 1.0, loaded from memory: an instruction takes one constant only, and with the
    other in a register both logical operations are one. (An argument would be read again each time.)
    """
    if PLANE < 2:
        bits = words << 12
    elif PLANE == 2:
        bits = words << 8
    elif PLANE < 5:
        bits = words
    elif PLANE < 7:
        bits = words >> 8
    else:
        bits = words >> 16
    if PLANE == 0 or PLANE == 3 or PLANE == 5 or PLANE == 7:
        bits &= 0x0000F000
    else:
        bits &= 0x000F0000
    return (bits | ones).to(tl.float32, bitcast=True)


@triton.jit
def load(pointers, mask, EVEN: tl.constexpr):
    """What lies there, zero outside of `mask`; EVEN: `mask` is all true."""
    found = tl.load(pointers) if EVEN else tl.load(pointers, mask=mask, other=0.0)
    return found


@triton.jit
def lane_inputs(x_ptr, gain_ptr, k, mask, NORM: tl.constexpr, EVEN: tl.constexpr):
    """Inputs at the columns k [LANES, V], with NORM times the norm's weight; and their squares."""
    x = load(x_ptr + k, mask, EVEN).to(tl.float32)
    squares = x * x
    if NORM:
        x *= load(gain_ptr + k, mask, EVEN).to(tl.float32)
    return x, squares


@triton.jit
def lane_products(
    acc, squares, x_ptr, gain_ptr, lane, matrix, chosen_ptr, weights_ptr,
    data_ptr, scale_ptr, offset_ptr, ones_ptr, n, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    KIND: tl.constexpr, GROUP: tl.constexpr, OFFSETS: tl.constexpr, NORM: tl.constexpr,
    SLOTS: tl.constexpr, VECTOR: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """acc [BLOCK_N, LANES] and squares [LANES] plus what these lanes add; see `row_product`."""
    WIDTH: tl.constexpr = 32 if KIND == "int4" else VECTOR
    across = tl.cdiv(COLUMNS, WIDTH)
    v = tl.arange(0, VECTOR)
    if SLOTS:
        slot = lane // across
        used = slot < SLOTS
        first = (lane % across) * WIDTH
        before = load(chosen_ptr + slot, used, EVEN).to(tl.int64) * ROWS
        weight = load(weights_ptr + slot, used, EVEN).to(tl.float32)[None, :]
        x_at = x_ptr + (slot * COLUMNS)[:, None]
    else:
        used = lane < across
        first = lane * WIDTH
        before = lane.to(tl.int64) * 0 + matrix * ROWS
        weight = 1.0
        x_at = x_ptr
    inside = (n < ROWS)[:, None] & used[None, :]
    if KIND == "int4":
        ones = tl.load(ones_ptr)
        at = (before * (COLUMNS // 8) + first // 8)[None, :] + (n * (COLUMNS // 8))[:, None]
        words = load(data_ptr + at[:, :, None] + v[None, None, :], inside[:, :, None], EVEN)
        low = tl.zeros_like(words).to(tl.float32)
        high = low
        low_x = tl.zeros([first.shape[0], VECTOR], tl.float32)
        high_x = low_x
        for plane in tl.static_range(8):
            k = first[:, None] + plane * 4 + v[None, :]
            x, more = lane_inputs(x_at, gain_ptr, k, used[:, None], NORM, EVEN)
            squares += tl.sum(more, axis=1)
            part = low_or_high(words, ones, plane) * x[None, :, :]
            if plane == 0 or plane == 3 or plane == 5 or plane == 7:
                low += part
                low_x += x
            else:
                high += part
                high_x += x
        low_sum, high_sum = tl.sum(low_x, axis=1)[None, :], tl.sum(high_x, axis=1)[None, :]
        low_part, high_part = tl.sum(low, axis=2) - low_sum, tl.sum(high, axis=2) - high_sum
        groups = COLUMNS // GROUP
        at = (before * groups + first // GROUP)[None, :] + (n * groups)[:, None]
        scale = load(scale_ptr + at, inside, EVEN).to(tl.float32) * weight
        if OFFSETS:
            offset = load(offset_ptr + at, inside, EVEN).to(tl.float32) * weight
        else:
            offset = scale * -8.0
        acc += scale * (low_part * 2048.0 + high_part * 128.0) + offset * (low_sum + high_sum)
    else:
        k = first[:, None] + v[None, :]
        k_used = (k < COLUMNS) & used[:, None]
        x, more = lane_inputs(x_at, gain_ptr, k, k_used, NORM, EVEN)
        squares += tl.sum(more, axis=1)
        at = (before * COLUMNS + first)[None, :] + (n * COLUMNS)[:, None]
        mask = inside[:, :, None] & k_used[None, :, :]
        w = load(data_ptr + at[:, :, None] + v[None, None, :], mask, EVEN)
        part = tl.sum(w.to(tl.float32) * x[None, :, :], axis=2)
        if KIND == "float":
            acc += part * weight
        else:
            if KIND == "fp8":
                blocks = tl.cdiv(COLUMNS, GROUP)
                matrix_blocks = blocks * tl.cdiv(ROWS, GROUP)
                at = (before // ROWS * matrix_blocks + first // GROUP)[None, :]
                at += (n // GROUP * blocks)[:, None]
            else:
                groups = COLUMNS // GROUP
                at = (before * groups + first // GROUP)[None, :] + (n * groups)[:, None]
            acc += part * (load(scale_ptr + at, inside, EVEN).to(tl.float32) * weight)
    return acc, squares


@triton.jit
def row_product(
    x_ptr, gain_ptr, matrix, chosen_ptr, weights_ptr, data_ptr, scale_ptr, offset_ptr, ones_ptr, n,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    KIND: tl.constexpr, GROUP: tl.constexpr, OFFSETS: tl.constexpr, NORM: tl.constexpr,
    SLOTS: tl.constexpr, STEPS: tl.constexpr, UNROLL: tl.constexpr, BLOCK_N: tl.constexpr,
    LANES: tl.constexpr, VECTOR: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """[BLOCK_N] float32: x [columns] times the rows `n` of matrix `matrix`, and the sum of x's squares.

    With SLOTS, x is [SLOTS, columns], and the result the sum over the slots of weights[slot] times
    x[slot] times the matrix chosen[slot] of [matrices, rows, columns]. A step takes LANES times
    VECTOR values (int4: words of 8) of each row, of all slots one behind the other. EVEN says that
    blocks and steps divide rows and columns, so that nothing is masked.
    """
    acc = tl.zeros([BLOCK_N, LANES], tl.float32)
    squares = tl.zeros([LANES], tl.float32)
    if UNROLL:  # so that all loads can be under way at once
        for step in tl.static_range(STEPS):
            acc, squares = lane_products(
                acc, squares, x_ptr, gain_ptr, step * LANES + tl.arange(0, LANES), matrix,
                chosen_ptr, weights_ptr, data_ptr, scale_ptr, offset_ptr, ones_ptr, n, ROWS, COLUMNS,
                KIND, GROUP, OFFSETS, NORM, SLOTS, VECTOR, EVEN,
            )  # fmt: skip
    else:
        for step in tl.range(0, STEPS):
            acc, squares = lane_products(
                acc, squares, x_ptr, gain_ptr, step * LANES + tl.arange(0, LANES), matrix,
                chosen_ptr, weights_ptr, data_ptr, scale_ptr, offset_ptr, ones_ptr, n, ROWS, COLUMNS,
                KIND, GROUP, OFFSETS, NORM, SLOTS, VECTOR, EVEN,
            )  # fmt: skip
    return tl.sum(acc, axis=1), tl.sum(squares, axis=0)


@triton.jit
def int4_values(words, ones, PLANE: tl.constexpr, scale, offset):
    """float32 n * scale + offset of nibble PLANE of each of `words`; scale, offset broadcast."""
    value = low_or_high(words, ones, PLANE)
    step: tl.constexpr = 2048.0 if PLANE == 0 or PLANE == 3 or PLANE == 5 or PLANE == 7 else 128.0
    return (value - 1.0) * (scale * step) + offset


@triton.jit
def token_inputs(x_ptr, x_stride, gain_ptr, k, columns, t, tokens, NORM: tl.constexpr):
    """Inputs [len(t), len(k)] float32 of the columns k, and their squares before the gain."""
    mask = (k < columns)[None, :] & (t < tokens)[:, None]
    x = tl.load(x_ptr + t[:, None] * x_stride + k[None, :], mask=mask, other=0.0).to(tl.float32)
    squares = tl.sum(x * x, axis=1)
    if NORM:
        x *= tl.load(gain_ptr + k, mask=k < columns, other=0.0).to(tl.float32)[None, :]
    return x, squares


@triton.jit
def rows_product(
    x_ptr, gain_ptr, x_stride, tokens, data_ptr, scale_ptr, offset_ptr, ones_ptr, n,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    KIND: tl.constexpr, GROUP: tl.constexpr, OFFSETS: tl.constexpr, NORM: tl.constexpr,
    TOKENS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """[TOKENS, BLOCK_N] float32: tokens x [tokens, columns] times the rows `n` of one matrix.

    The second result are the sums of the squares of x: [TOKENS]. BLOCK_K divides GROUP, or in int4
    its multiple of 32 columns is 8 planes of what one product takes.
    """
    inside = (n < ROWS)[:, None]
    row = n.to(tl.int64)[:, None]
    t = tl.arange(0, TOKENS)
    squares = tl.zeros([TOKENS], tl.float32)
    acc = tl.zeros([TOKENS, BLOCK_N], tl.float32)
    if KIND == "int4":
        ones = tl.load(ones_ptr)
        WORDS: tl.constexpr = BLOCK_K // 8
        j = tl.arange(0, WORDS)
        for k0 in range(0, COLUMNS, BLOCK_K):
            used = inside & (k0 + j * 8 < COLUMNS)[None, :]
            words = tl.load(
                data_ptr + row * (COLUMNS // 8) + k0 // 8 + j[None, :], mask=used, other=0
            )
            at = row * (COLUMNS // GROUP) + (k0 + (j // 4) * 32)[None, :] // GROUP
            scale = tl.load(scale_ptr + at, mask=used, other=0.0).to(tl.float32)
            if OFFSETS:
                offset = tl.load(offset_ptr + at, mask=used, other=0.0).to(tl.float32)
            else:
                offset = scale * -8.0
            for plane in tl.static_range(8):
                k = k0 + (j // 4) * 32 + plane * 4 + j % 4
                x, more = token_inputs(x_ptr, x_stride, gain_ptr, k, COLUMNS, t, tokens, NORM)
                squares += more
                w = int4_values(words, ones, plane, scale, offset)
                acc = tl.dot(x.to(DOT), tl.trans(w.to(DOT)), acc, input_precision="ieee")
    else:
        for k0 in range(0, COLUMNS, BLOCK_K):
            k = k0 + tl.arange(0, BLOCK_K)
            x, more = token_inputs(x_ptr, x_stride, gain_ptr, k, COLUMNS, t, tokens, NORM)
            squares += more
            mask = inside & (k < COLUMNS)[None, :]
            w = tl.load(data_ptr + row * COLUMNS + k[None, :], mask=mask, other=0.0)
            if KIND != "float":
                if KIND == "fp8":
                    at = (row // GROUP) * tl.cdiv(COLUMNS, GROUP) + k0 // GROUP
                else:
                    at = row * (COLUMNS // GROUP) + k0 // GROUP
                scale = tl.load(scale_ptr + at, mask=inside, other=0.0).to(tl.float32)
                w = w.to(tl.float32) * scale
            acc = tl.dot(x.to(DOT), tl.trans(w.to(DOT)), acc, input_precision="ieee")
    return acc, squares


@triton.jit
def few_product(
    x_ptr, gain_ptr, x_stride, tokens, data_ptr, scale_ptr, offset_ptr, ones_ptr, n,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    KIND: tl.constexpr, GROUP: tl.constexpr, OFFSETS: tl.constexpr, NORM: tl.constexpr,
    TOKENS: tl.constexpr, STEPS: tl.constexpr, UNROLL: tl.constexpr, BLOCK_N: tl.constexpr,
    LANES: tl.constexpr, VECTOR: tl.constexpr, EVEN: tl.constexpr, BLOCK_K: tl.constexpr,
    DOT: tl.constexpr,
):  # fmt: skip
    """`row_product` or `rows_product`, by the number of tokens: [TOKENS, BLOCK_N] and [TOKENS]."""
    if TOKENS == 1:
        y, squares = row_product(
            x_ptr, gain_ptr, 0, None, None, data_ptr, scale_ptr, offset_ptr, ones_ptr, n, ROWS, COLUMNS,
            KIND, GROUP, OFFSETS, NORM, 0, STEPS, UNROLL, BLOCK_N, LANES, VECTOR, EVEN,
        )  # fmt: skip
        acc, sums = y[None, :], tl.zeros([1], tl.float32) + squares
    else:
        acc, sums = rows_product(
            x_ptr, gain_ptr, x_stride, tokens, data_ptr, scale_ptr, offset_ptr, ones_ptr, n, ROWS,
            COLUMNS,
            KIND, GROUP, OFFSETS, NORM, TOKENS, BLOCK_N, BLOCK_K, DOT,
        )  # fmt: skip
    return acc, sums
