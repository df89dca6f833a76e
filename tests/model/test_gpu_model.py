"""The decoder in the Triton kernels (here in the interpreter) equals the plain one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="the Triton kernels need triton, which is made for Linux")

from qcoder.kernels.gpu.launch import recorded
from qcoder.kernels.tiled import TiledShape, tile
from qcoder.model.checkpoint import Checkpoint
from qcoder.model.config import load_config
from qcoder.model.decoder import Decoder, Pass
from qcoder.model.errors import ModelError
from qcoder.model.gpu_model import GpuModel, gpu_model
from qcoder.model.gpu_weights import gpu_matrix
from qcoder.model.local import LocalEngine
from qcoder.model.matrix import Tiles, TwoPlanes
from qcoder.model.mixture import Mixture
from qcoder.model.quant import quantize_int4
from qcoder.model.registry import network_class
from qcoder.model.request import GenerationRequest, Prompt

MoE = {"hidden_size": 64, "moe_intermediate_size": 32, "head_dim": 16, "num_hidden_layers": 2}
NEXT = {
    "model_type": "qwen3_next", "hidden_size": 64, "head_dim": 16, "num_hidden_layers": 3,
    "full_attention_interval": 3, "partial_rotary_factor": 0.5, "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16, "linear_num_key_heads": 1, "linear_num_value_heads": 2,
    "linear_key_head_dim": 16, "linear_value_head_dim": 16, "linear_conv_kernel_dim": 4,
}  # fmt: skip
MIXED = {**MoE, "mlp_only_layers": [0], "attention_bias": True}


BOUND = 1e-3
"""Of logits up to 8: sums are in another order, in layers that amplify differences."""


def both(folder: Any, pages: int = 16) -> tuple[Decoder, GpuModel]:
    config = load_config(folder)
    with Checkpoint.open(folder) as checkpoint:
        made = network_class(config.model_type).load(checkpoint, config, torch.float32, 512)
    return made, gpu_model(made, "cpu", 512, pages, torch.float32)


@pytest.fixture(scope="module", params=["moe", "next", "mixed"])
def models(request: pytest.FixtureRequest, make_tiny: Callable[..., Any]) -> Any:
    changes = {"moe": MoE, "next": NEXT, "mixed": MIXED}[request.param]
    return both(make_tiny(seed=3, **changes).folder)


def ids(count: int, seed: int = 0) -> list[int]:
    return torch.randint(0, 300, (count,), generator=torch.manual_seed(seed)).tolist()


def test_many_tokens_then_few_equal_the_plain_decoder(models: tuple[Decoder, GpuModel]) -> None:
    plain, fast = models
    expected, got = plain.new_sequence(), fast.new_sequence()
    for part in (ids(67), ids(1, 1), ids(3, 2)):
        wanted = plain.forward(part, expected, all_logits=True)
        found = fast.forward(part, got, all_logits=True)
        assert (found - wanted).abs().max() < BOUND
        got.check_integrity()


def test_two_planes_become_one_matrix_of_int8() -> None:
    torch.manual_seed(0)
    matrix, shape = torch.randn(96, 128), TiledShape(96, 128, 4, 128)
    first = Tiles(tile(*quantize_int4(matrix, 128), shape), shape)
    left_out = matrix - first.floats(0, 96)
    planes = TwoPlanes(first, Tiles(tile(*quantize_int4(left_out, 128), shape), shape))
    found = gpu_matrix(planes)
    assert found.kind == "int8"
    assert (found.floats() - planes.floats(0, 96)).abs().max() < 0.6 * matrix.abs().max() / 127


def test_sequences_decode_together_as_alone(models: tuple[Decoder, GpuModel]) -> None:
    plain, fast = models
    sequences = [fast.new_sequence() for _ in range(2)]
    fast.forward(ids(17), sequences[0])
    fast.forward(ids(5, 1), sequences[1])
    found = fast.compute([Pass(ids(2, 2), sequences[0], 2), Pass(ids(1, 3), sequences[1], 1)])
    for before, new, logits in ((ids(17), ids(2, 2), found[0]), (ids(5, 1), ids(1, 3), found[1])):
        wanted = plain.forward([*before, *new], plain.new_sequence(), all_logits=True)
        assert torch.allclose(logits, wanted[-len(new) :], atol=BOUND)


def test_a_cut_sequence_and_its_copy_go_on_apart(models: tuple[Decoder, GpuModel]) -> None:
    plain, fast = models
    first = fast.new_sequence()
    fast.forward(ids(20), first)
    first.snapshot()
    fast.forward(ids(2, 1), first)
    second = first.copy_prefix(first.cuttable(20))
    first.truncate(first.cuttable(20))
    assert len(first) == len(second) == 20
    for sequence, new in ((first, ids(3, 2)), (second, ids(3, 3))):
        wanted = plain.forward([*ids(20), *new], plain.new_sequence())
        assert torch.allclose(fast.forward(new, sequence), wanted, atol=BOUND)
    fast.pool.check_integrity([first, second])


def test_pages_come_back(make_tiny: Callable[..., Any]) -> None:
    _, fast = both(make_tiny(seed=3, **MoE).folder, pages=2)
    sequence = fast.new_sequence()
    fast.forward(ids(66), sequence)
    with pytest.raises(ModelError, match="key-value cache is full"):
        fast.forward(ids(66), sequence)
    sequence.check_integrity()
    del sequence
    assert fast.pool.free == 2


def test_a_decode_step_takes_five_launches_a_layer(make_tiny: Callable[..., Any]) -> None:
    _, fast = both(make_tiny(seed=3, **MoE).folder)
    sequence = fast.new_sequence()
    fast.forward(ids(4), sequence)
    with recorded() as launches:
        fast.forward(ids(1), sequence)
    assert len(launches) <= 5 * len(fast.pool.layers) + 1  # the head


def test_int8_rows_stay_integers(tiny_int8: Any) -> None:
    plain, fast = both(tiny_int8.folder)
    wanted = plain.forward(ids(9), plain.new_sequence(), all_logits=True)
    found = fast.forward(ids(9), fast.new_sequence(), all_logits=True)
    assert torch.allclose(found, wanted, atol=BOUND)


@pytest.mark.parametrize("changes", [MoE, NEXT])
def test_the_engine_generates_the_same_tokens(
    make_tiny: Callable[..., Any], changes: dict[str, Any]
) -> None:
    plain = LocalEngine.load(str(make_tiny(seed=3, **changes).folder), max_context=512)
    _, fast = both(make_tiny(seed=3, **changes).folder)
    on_device = LocalEngine(fast, plain.tokenizer, plain.info, Mixture.load_for(plain.info), 1)
    for prompt in (ids(19), [*ids(19), *ids(2, 1)], ids(9, 2)):  # the second goes on from the first
        request = GenerationRequest(Prompt(tuple(prompt)), max_tokens=3)
        wanted = [out.id for out in plain.generate(request)]
        assert [out.id for out in on_device.generate(request)] == wanted
    on_device.check_integrity()
