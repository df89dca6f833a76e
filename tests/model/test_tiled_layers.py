from collections.abc import Iterator

import pytest
import torch

from qcoder.kernels.native_library import library, native
from qcoder.model.linear import FloatExperts, FloatLinear
from qcoder.model.local import LocalEngine
from qcoder.model.matrix import Rows
from qcoder.model.native_model import NativeModel
from qcoder.model.quant import dequantize_int8, quantize_int8
from qcoder.model.tiled_layers import tiled_experts_layer, tiled_linear_layer

pytestmark = pytest.mark.skipif(
    library() is None, reason="the compiled kernels are not installed (no C++ compiler)"
)


@pytest.fixture(autouse=True, scope="module")
def without_compiled_kernels() -> Iterator[None]:
    """Here they are used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QCODER_KERNELS", "cpu")
        yield


def int8_rows(out_size: int, in_size: int) -> tuple[Rows, torch.Tensor]:
    data, scale = quantize_int8(torch.randn(out_size, in_size) / in_size**0.5)
    return Rows(data, scale.unsqueeze(1), in_size), dequantize_int8(data, scale)


@pytest.mark.parametrize("columns", [32, 96, 128, 384])
def test_a_layer_of_several_parts_is_their_product(columns: int) -> None:
    torch.manual_seed(columns)
    kernels = native()
    assert kernels is not None
    (first, a), (second, b) = int8_rows(48, columns), int8_rows(16, columns)
    bias = torch.randn(64)
    layer = tiled_linear_layer([first, second], bias, kernels, rows=True)
    assert layer is not None
    x = torch.randn(7, columns)
    expected = FloatLinear(torch.cat([a, b]), bias)(x)
    assert (layer(x) - expected).abs().max() < 0.02 * expected.abs().max()
    assert torch.equal(layer.weight, torch.cat([a, b])), "the weights are those of the file"


def test_experts_are_those_of_the_float_layer() -> None:
    torch.manual_seed(0)
    kernels = native()
    assert kernels is not None
    gates, ups, downs = (
        [int8_rows(*shape) for _ in range(4)] for shape in ((32, 64), (32, 64), (64, 32))
    )
    pairs = [(g[0], u[0]) for g, u in zip(gates, ups, strict=True)]
    layer = tiled_experts_layer(pairs, [d[0] for d in downs], kernels)
    assert layer is not None
    floats = FloatExperts(
        torch.stack([torch.cat([g[1], u[1]]) for g, u in zip(gates, ups, strict=True)]),
        torch.stack([d[1] for d in downs]),
    )
    x, weights = torch.randn(9, 64), torch.rand(9, 2)
    chosen = torch.stack([torch.randperm(4)[:2] for _ in range(9)])
    expected = floats(x, weights, chosen)
    assert (layer(x, weights, chosen) - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize("shape", [(24, 64), (32, 48)])
def test_shapes_without_tiles_stay_with_torch(shape: tuple[int, int]) -> None:
    kernels = native()
    assert kernels is not None
    rows, _ = int8_rows(*shape)
    assert tiled_linear_layer([rows], None, kernels, rows=True) is None
    assert tiled_experts_layer([(rows, rows)], [rows], kernels) is None


def test_the_default_model_runs_in_them_and_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = LocalEngine.load("default")
    monkeypatch.setenv("QCODER_KERNELS", "torch")
    plain = LocalEngine.load("default")
    ids = engine.tokenizer.encode("def add(first, second):\n    return first + second\n" * 3)
    ours, theirs = engine.logits(ids).log_softmax(-1), plain.logits(ids).log_softmax(-1)
    assert isinstance(engine._model, NativeModel)
    divergence = (theirs.exp() * (theirs - ours)).sum(-1)
    assert divergence.mean() < 1e-3
    assert engine.stats().weight_bytes < plain.stats().weight_bytes
    assert torch.equal(ours[:5], engine.logits(ids[:5]).log_softmax(-1))
