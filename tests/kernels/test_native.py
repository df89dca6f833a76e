"""The compiled kernels compute what the plain versions say, on every instruction set that is here."""

import threading

import pytest
import torch

from qcoder.kernels.native_library import Native, instruction_sets, library
from qcoder.kernels.tiled import (
    TiledShape,
    quantize,
    residual_linear,
    rounded,
    tile,
    tiled_experts,
    tiled_linear,
    untile,
)
from qcoder.model.importer import ROUND
from qcoder.model.quant import quantize_int4

FORMATS = [(4, 32), (4, 128), (8, 32), (8, 128)]
NO_LIBRARY = "the compiled kernels are not installed (no C++ compiler when qcoder was)"
needs_library = pytest.mark.skipif(library() is None, reason=NO_LIBRARY)


def tiled(matrix: torch.Tensor, bits: int, group: int) -> torch.Tensor:
    values, scales = quantize(matrix, bits, group)
    return tile(values, scales, TiledShape(*matrix.shape, bits, group))


@pytest.fixture(params=instruction_sets() or ["plain"])
def native(request: pytest.FixtureRequest) -> Native:
    if library() is None:
        pytest.skip(NO_LIBRARY)
    return Native(2, request.param)


@pytest.mark.parametrize(("bits", "group"), FORMATS)
@pytest.mark.parametrize(("rows", "columns"), [(16, 128), (48, 384), (80, 256)])
def test_tiling_keeps_every_value(bits: int, group: int, rows: int, columns: int) -> None:
    torch.manual_seed(rows)
    matrix = torch.randn(rows, columns)
    values, scales = quantize(matrix, bits, group)
    shape = TiledShape(rows, columns, bits, group)
    data = tile(values, scales, shape)
    assert data.numel() == shape.size_bytes
    meant = values.float() - (8 if bits == 4 else 128)
    expected = meant.view(rows, -1, group) * scales.float().unsqueeze(-1)
    assert torch.equal(untile(data, shape), expected.flatten(1))
    step = scales.float().repeat_interleave(group, dim=1)
    assert ((untile(data, shape) - matrix).abs() <= 0.51 * step).all()


@pytest.mark.parametrize(("bits", "group"), FORMATS)
@pytest.mark.parametrize("tokens", [1, 2, 3, 5, 8, 13, 70])
def test_linear_equals_the_plain_version(
    native: Native, bits: int, group: int, tokens: int
) -> None:
    torch.manual_seed(tokens)
    matrix, x = torch.randn(48, 384), torch.randn(tokens, 384) * 3
    data = tiled(matrix, bits, group)
    expected = tiled_linear(x, data, TiledShape(48, 384, bits, group))
    y = native.linear(x, data, TiledShape(48, 384, bits, group))
    assert (y - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize(("bits", "group"), FORMATS)
@pytest.mark.parametrize(("tokens", "top_k"), [(1, 2), (3, 1), (40, 3)])
def test_experts_equal_the_plain_version(
    native: Native, bits: int, group: int, tokens: int, top_k: int
) -> None:
    torch.manual_seed(tokens)
    hidden, size, experts = 256, 128, 5
    gate_up = torch.stack(
        [tiled(torch.randn(2 * size, hidden) / 16, bits, group) for _ in range(experts)]
    )
    down = torch.stack([tiled(torch.randn(hidden, size) / 11, 4, 32) for _ in range(experts)])
    x, weights = torch.randn(tokens, hidden), torch.rand(tokens, top_k)
    first, second = TiledShape(2 * size, hidden, bits, group), TiledShape(hidden, size, 4, 32)
    # The last expert is never chosen.
    chosen = torch.stack([torch.randperm(experts - 1)[:top_k] for _ in range(tokens)])
    y = native.experts(x, gate_up, down, weights, chosen, first, second)
    expected = tiled_experts(x, gate_up, down, weights, chosen, first, second)
    # A value at the edge between two steps may round to either.
    assert (y - expected).abs().max() <= 0.02 * expected.abs().max()
    assert (y - expected).abs().mean() <= 5e-4 * expected.abs().mean()


def test_a_token_does_not_depend_on_its_company(native: Native) -> None:
    torch.manual_seed(0)
    data, x = tiled(torch.randn(64, 256), 4, 32), torch.randn(21, 256)
    shape = TiledShape(64, 256, 4, 32)
    together = native.linear(x, data, shape)
    alone = torch.cat([native.linear(row.unsqueeze(0), data, shape) for row in x])
    assert torch.equal(together, alone)


def planes(matrix: torch.Tensor, group: int) -> tuple[torch.Tensor, torch.Tensor, TiledShape]:
    shape = TiledShape(*matrix.shape, 4, group)
    values, scales = ROUND["int4x2"](matrix, group)
    first = tile(values, scales, shape)
    left_out = matrix - untile(first, shape)
    return first, tile(*quantize_int4(left_out, group), shape), shape


@pytest.mark.parametrize("group", [32, 128])
@pytest.mark.parametrize(("tokens", "rows"), [(1, 48), (1, 1024), (3, 640), (70, 528)])
def test_two_planes_equal_the_plain_version(
    native: Native, group: int, tokens: int, rows: int
) -> None:
    torch.manual_seed(rows)
    matrix, x = torch.randn(rows, 384), torch.randn(tokens, 384) * 3
    first, second, shape = planes(matrix, group)
    expected = residual_linear(x, first, second, shape)
    y = native.linear(x, first, shape, second)
    assert (y - expected).abs().max() <= 1e-5 * expected.abs().max()
    alone = torch.cat([native.linear(row.unsqueeze(0), first, shape, second) for row in x])
    assert torch.equal(y, alone)


@needs_library
def test_two_planes_are_as_exact_as_int8_where_products_are_large() -> None:
    torch.manual_seed(5)
    matrix, x = torch.randn(4096, 384), torch.randn(20, 384)
    first, second, shape = planes(matrix, 128)
    exact = rounded(x, 128) @ matrix.T
    largest = exact.topk(2).indices
    y = Native(1).linear(x, first, shape, second)
    eight = Native(1).linear(x, tiled(matrix, 8, 128), TiledShape(4096, 384, 8, 128))

    def error(found: torch.Tensor) -> float:
        return float((found - exact).gather(1, largest).square().mean())

    assert error(y) <= 1.5 * error(eight)
    assert torch.equal(y.argmax(-1), eight.argmax(-1))
    only = Native(1).linear(x, first, shape)
    assert error(only) > 50 * error(y)


@needs_library
def test_what_is_no_number_stays_where_it_is() -> None:
    torch.manual_seed(6)
    first, second, shape = planes(torch.randn(1024, 128), 128)
    x = torch.randn(2, 128)
    x[0, 3] = torch.nan
    y = Native(2).linear(x, first, shape, second)
    assert torch.equal(y[1:], Native(1).linear(x[1:], first, shape, second))


@needs_library
def test_zeros_and_extremes_stay_finite() -> None:
    data = tiled(torch.randn(16, 128), 8, 128)
    x = torch.zeros(2, 128)
    x[1] = 1e30
    y = Native(1).linear(x, data, TiledShape(16, 128, 8, 128))
    assert torch.equal(y[0], torch.zeros(16))
    assert torch.isfinite(y[1]).all()


@needs_library
def test_the_number_of_threads_changes_nothing() -> None:
    torch.manual_seed(1)
    data, x = tiled(torch.randn(256, 256), 4, 128), torch.randn(9, 256)
    one, three = (Native(n).linear(x, data, TiledShape(256, 256, 4, 128)) for n in (1, 3))
    assert torch.equal(one, three)


@needs_library
@pytest.mark.parametrize("shared", [True, False])
def test_calls_from_several_threads_do_not_mix(shared: bool) -> None:
    torch.manual_seed(2)
    data, x = tiled(torch.randn(128, 256), 4, 32), torch.randn(4, 256)
    shape = TiledShape(128, 256, 4, 32)
    expected = Native(1).linear(x, data, shape)
    wrong: list[int] = []
    ours = Native(2)

    def loop() -> None:
        own = ours if shared else Native(2)
        results = [own.linear(x, data, shape) for _ in range(200)]
        wrong.extend(i for i, y in enumerate(results) if not torch.equal(y, expected))

    threads = [threading.Thread(target=loop) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@needs_library
def test_a_set_that_is_not_here_is_refused() -> None:
    with pytest.raises(OSError, match="no kernels for plain with 0 threads"):
        Native(0, "plain")


@pytest.mark.parametrize(
    ("shape", "message"),
    [((15, 128, 4, 32), "does not divide"), ((16, 100, 4, 32), "does not divide"),
     ((16, 128, 2, 32), "no kernels for int2"), ((16, 128, 4, 64), "groups of 64")],
)  # fmt: skip
def test_shapes_without_tiles_are_refused(shape: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TiledShape(*shape)
