"""Products with int4 and int8 rows against their float64 references."""

import pytest
import torch

from qcoder.kernels.int4_linear import (
    dequantize_int4,
    int4_linear_cpu,
    int4_linear_reference,
    pack_int4,
    unpack_int4,
)
from qcoder.kernels.int8_rows_linear import (
    FEW_TOKENS,
    int8_rows_linear_cpu,
    int8_rows_linear_reference,
)

SHAPES = [(1, 64, 1), (3, 96, 63), (17, 256, 257), (2, 2048, 600)]
"""tokens, in, out; the last is more than a slice."""


@pytest.mark.parametrize(("tokens", "in_size", "out_size"), SHAPES)
@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_int4_equals_its_reference(
    tokens: int, in_size: int, out_size: int, asymmetric: bool, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(out_size)
    x = torch.randn(tokens, in_size, generator=generator).to(dtype)
    packed = torch.randint(0, 256, (out_size, in_size // 2), generator=generator)
    scale = torch.rand(out_size, in_size // 32, generator=generator).half()
    offset = torch.randn(scale.shape, generator=generator) if asymmetric else None
    found = int4_linear_cpu(x, packed.to(torch.uint8), scale, offset)
    expected = int4_linear_reference(x, packed.to(torch.uint8), scale, offset)
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 8e-3
    difference = (found - expected).abs().max()
    assert float(difference) <= tolerance * float(expected.abs().max())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_one_scale_for_all_rows_is_read_for_each(dtype: torch.dtype) -> None:
    rows = torch.randint(-127, 128, (64, 128), dtype=torch.int8)
    x, one = torch.randn(3, 128).bfloat16(), torch.tensor([[0.01]], dtype=dtype)
    found = int8_rows_linear_cpu(x, rows, one.expand(64, 1)[:, 0])
    expected = int8_rows_linear_reference(x, rows, one.expand(64, 1)[:, 0])
    assert torch.allclose(found.float(), expected.float(), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("tokens", [1, FEW_TOKENS, FEW_TOKENS + 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_int8_rows_equal_their_reference(tokens: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(tokens)
    x = torch.randn(tokens, 96, generator=generator).to(dtype)
    rows = torch.randint(-127, 128, (257, 96), generator=generator).to(torch.int8)
    scale = torch.rand(257, generator=generator).half()
    found, expected = (
        f(x, rows, scale) for f in (int8_rows_linear_cpu, int8_rows_linear_reference)
    )
    tolerance = 1e-5 if dtype == torch.float32 else 1.5e-2
    assert found.dtype == dtype
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


def test_halves_are_unpacked_as_they_were_packed() -> None:
    values = torch.arange(64, dtype=torch.uint8).view(2, 32) % 16
    assert torch.equal(unpack_int4(pack_int4(values)), values)
    assert pack_int4(torch.tensor([[3, 10]], dtype=torch.uint8)).tolist() == [[163]]
    one = dequantize_int4(pack_int4(values), torch.ones(2, 1).half(), None)
    assert one[0, :3].tolist() == [-8, -7, -6]
