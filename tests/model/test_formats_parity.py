"""Every quantized format against the floats that it stands for.

Matrices are packed by the compressed-tensors package where that is the format, otherwise by slow code
that packs one value after the other. `--seed N` draws other shapes and weights.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from qcoder.kernels.int4_linear import pack_int4
from qcoder.kernels.tiled import TiledShape, dequantize, quantize, tile
from qcoder.model.checkpoint import Checkpoint
from qcoder.model.errors import CheckpointError
from qcoder.model.local import LocalEngine
from qcoder.model.matrix import Above, Floats, Rows, float_matrix
from qcoder.model.quant import quantize_fp8, quantize_int4, quantize_int8

TOLERANCE = 1e-4
"""Of logits, relative to the largest."""

Packer = Callable[[Tensor, int], tuple[dict[str, Tensor], Tensor]]
"""(weight, group) -> tensors by what follows the layer's name, and the floats they stand for."""


def words(values: Tensor, order: tuple[int, ...] = tuple(range(8))) -> Tensor:
    """Values 0-15 [rows, n] packed eight a word along the columns: place i holds column order[i]."""
    out = []
    for row in values.tolist():
        packed = []
        for start in range(0, len(row), 8):
            word = sum(int(row[start + order[i]]) << (4 * i) for i in range(8))
            packed.append(word - 2**32 if word >= 2**31 else word)
        out.append(packed)
    return torch.tensor(out, dtype=torch.int32)


def asymmetric(weight: Tensor, group: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values 0-15 [out, in], scales and zeros [out, groups], and their floats."""
    parts = weight.view(weight.shape[0], -1, group)
    low, high = parts.amin(-1), parts.amax(-1)
    scale = ((high - low) / 15).half()
    zero = torch.round(-low / scale.float()).clamp(1, 15)
    values = (torch.round(parts / scale.float()[..., None]) + zero[..., None]).clamp(0, 15)
    meant = ((values - zero[..., None]) * scale.float()[..., None]).view(weight.shape)
    return values.view(weight.shape).int(), scale, zero.int(), meant


def awq(weight: Tensor, group: int) -> tuple[dict[str, Tensor], Tensor]:
    values, scale, zero, meant = asymmetric(weight, group)
    order = (0, 2, 4, 6, 1, 3, 5, 7)
    packed = {"qweight": words(values.t(), order), "qzeros": words(zero.t(), order)}
    return packed | {"scales": scale.t().contiguous()}, meant


def gptq(version: int, sort: bool) -> Packer:
    def pack(weight: Tensor, group: int) -> tuple[dict[str, Tensor], Tensor]:
        in_size = weight.shape[1]
        shuffled = torch.randperm(in_size, generator=torch.Generator().manual_seed(in_size))
        order = shuffled if sort else torch.arange(in_size)
        values, scale, zero, sorted_meant = asymmetric(weight[:, order], group)
        meant, columns = torch.empty_like(weight), torch.empty_like(values)
        group_of = torch.empty(in_size, dtype=torch.int32)
        for place, column in enumerate(order.tolist()):
            meant[:, column], columns[:, column] = sorted_meant[:, place], values[:, place]
            group_of[column] = place // group
        stored = zero - 1 if version == 1 else zero
        packed = {"qweight": words(columns).t().contiguous(), "qzeros": words(stored.t())}
        return packed | {"scales": scale.t().contiguous(), "g_idx": group_of}, meant

    return pack


def fp8(scale_dtype: torch.dtype) -> Packer:
    def pack(weight: Tensor, group: int) -> tuple[dict[str, Tensor], Tensor]:
        rows, columns = -(-weight.shape[0] // group), -(-weight.shape[1] // group)
        inverse = torch.empty(rows, columns)
        data = torch.empty(weight.shape, dtype=torch.float8_e4m3fn)
        meant = torch.empty_like(weight)
        for r in range(rows):
            for c in range(columns):
                at = (slice(r * group, (r + 1) * group), slice(c * group, (c + 1) * group))
                scale = (weight[at].abs().max() / 448).to(scale_dtype)
                inverse[r, c] = scale.float()
                data[at] = (weight[at] / scale.float()).clamp(-448, 448).to(data.dtype)
                meant[at] = data[at].float() * scale.float()
        return {"weight": data, "weight_scale_inv": inverse.to(scale_dtype)}, meant

    return pack


def compressed(symmetric: bool) -> Packer:
    def pack(weight: Tensor, group: int) -> tuple[dict[str, Tensor], Tensor]:
        package = pytest.importorskip("compressed_tensors.compressors.pack_quantized.base")
        quantization = pytest.importorskip("compressed_tensors.quantization")
        arguments = quantization.QuantizationArgs(
            num_bits=4, strategy="group", group_size=group, symmetric=symmetric
        )
        scheme = quantization.QuantizationScheme(targets=["Linear"], weights=arguments)
        parts = weight.view(weight.shape[0], -1, group)
        low, high = parts.amin(-1), parts.amax(-1)
        peak = torch.maximum(-low, high) / 7.5
        scale = (peak if symmetric else (high - low) / 15).bfloat16().float()
        state = {"weight": weight, "weight_scale": scale}
        if not symmetric:
            zero = torch.round(-8 - low / scale).clamp(-8, 7)
            state["weight_zero_point"] = zero.to(torch.int8)
        compressor = package.PackedQuantizationCompressor
        packed = compressor.compress(state, scheme)
        return packed, compressor.decompress(packed, scheme)["weight"].float()

    return pack


def by_row_int8(weight: Tensor, group: int) -> tuple[dict[str, Tensor], Tensor]:
    scale = (weight.abs().amax(1, keepdim=True) / 127).bfloat16()
    rows = torch.round(weight / scale.float()).clamp(-128, 127).to(torch.int8)
    return {"weight": rows, "weight_scale": scale}, rows.float() * scale.float()


def by_tensor_fp8(weight: Tensor, group: int) -> tuple[dict[str, Tensor], Tensor]:
    scale = (weight.abs().max() / 448).reshape(1)
    rows = (weight / scale).to(torch.float8_e4m3fn)
    return {"weight": rows, "weight_scale": scale}, rows.float() * scale


def our_int4(weight: Tensor, group: int) -> tuple[dict[str, Tensor], Tensor]:
    values, scale = quantize_int4(weight, group)
    meant = [
        [(value - 8) * steps[c // group] for c, value in enumerate(row)]
        for row, steps in zip(values.tolist(), scale.tolist(), strict=True)
    ]
    return {"weight": tiles(values, scale, 4)}, torch.tensor(meant)


def tiles(values: Tensor, scale: Tensor, bits: int) -> Tensor:
    """The tensor of a file: for each 16 rows and group the bytes that `kernels/tiled.py` names."""
    rows, columns = values.shape
    shape = TiledShape(rows, columns, bits, columns // scale.shape[1])
    return tile(values, scale, shape).view(rows // 16, shape.groups, shape.group_bytes)


def our_tiled_int8(weight: Tensor, group: int) -> tuple[dict[str, Tensor], Tensor]:
    values, scale = quantize(weight, 8, group)
    meant = (values.float() - 128) * scale.float().repeat_interleave(group, dim=1)
    return {"weight": tiles(values, scale, 8)}, meant


def our_fp8(weight: Tensor, group: int) -> tuple[dict[str, Tensor], Tensor]:
    rows, scale = quantize_fp8(weight)
    meant = torch.stack([row.float() * s for row, s in zip(rows, scale.float(), strict=True)])
    # Half a step: of three bits behind the point, or of the smallest numbers.
    slack = weight.abs() / 16 + scale.float()[:, None] * 2**-10
    assert bool(((meant - weight).abs() <= slack * 1.01).all())
    return {"weight": rows, "weight_scale": scale}, meant


def our_int8(weight: Tensor, group: int) -> tuple[dict[str, Tensor], Tensor]:
    rows, scale = quantize_int8(weight)
    meant = torch.stack([row.float() * s for row, s in zip(rows, scale.float(), strict=True)])
    return {"weight": rows, "weight_scale": scale}, meant


FORMATS: dict[str, tuple[dict[str, Any], Packer]] = {
    "awq": ({"quant_method": "awq", "bits": 4, "version": "gemm", "zero_point": True}, awq),
    "gptq": ({"quant_method": "gptq", "bits": 4}, gptq(1, sort=False)),
    "gptq-sorted": ({"quant_method": "gptq", "bits": 4, "desc_act": True}, gptq(1, sort=True)),
    "gptq-v2": (
        {"quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq_v2"},
        gptq(2, sort=True),
    ),
    "fp8-bf16": ({"quant_method": "fp8", "weight_block_size": [32, 32]}, fp8(torch.bfloat16)),
    "fp8-f32": ({"quant_method": "fp8", "weight_block_size": [32, 32]}, fp8(torch.float32)),
    "compressed": ({"quant_method": "compressed-tensors"}, compressed(True)),
    "compressed-zero": ({"quant_method": "compressed-tensors"}, compressed(False)),
    "compressed-int8": (
        {"quant_method": "compressed-tensors", "format": "int-quantized"},
        by_row_int8,
    ),
    "compressed-fp8": (
        {"quant_method": "compressed-tensors", "format": "float-quantized"},
        by_tensor_fp8,
    ),
    "qcoder-int4": ({"quant_method": "qcoder-int4"}, our_int4),
    "qcoder-fp8": ({"quant_method": "qcoder-fp8"}, our_fp8),
    "qcoder-int8": ({"quant_method": "qcoder-int8"}, our_tiled_int8),
    "qcoder-int8-rows": ({"quant_method": "qcoder-int8"}, our_int8),
}
GROUP = 32


def is_packed(name: str) -> bool:
    return "_proj" in name and name.endswith(".weight")


def drawn_shape(seed: int) -> dict[str, Any]:
    """A small config whose matrices are whole groups but not whole blocks of 128."""
    rng = random.Random(seed)
    kv_heads = rng.randint(1, 2)
    return {
        "hidden_size": GROUP * rng.randint(2, 5),
        "moe_intermediate_size": GROUP * rng.randint(1, 3),
        "head_dim": GROUP,
        "num_attention_heads": kv_heads * rng.randint(1, 3),
        "num_key_value_heads": kv_heads,
        "num_hidden_layers": 2,
        "num_experts": rng.randint(2, 5),
        "num_experts_per_tok": rng.randint(1, 2),
        "tie_word_embeddings": rng.random() < 0.3,
    }


@pytest.fixture(scope="module")
def plain(make_tiny: Any, seed: int) -> Any:
    """A float checkpoint, of which the packed ones are made."""
    return make_tiny(seed=seed, **drawn_shape(seed))


def written(folder: Path, like: Any, tensors: dict[str, Tensor], settings: Any) -> Path:
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes((like.folder / "tokenizer.json").read_bytes())
    changes = {"quantization_config": settings} if settings else {}
    (folder / "config.json").write_text(json.dumps(like.config | changes))
    save_file({n: t.contiguous() for n, t in tensors.items()}, folder / "model.safetensors")
    return folder


def packed_and_meant(plain: Any, name: str, folder: Path) -> tuple[Path, Path, dict[str, Tensor]]:
    """A checkpoint in a format, one of the floats it stands for, and those floats."""
    settings, pack = FORMATS[name]
    disk: dict[str, Tensor] = {}
    meant: dict[str, Tensor] = {}
    for key, tensor in plain.tensors.items():
        if is_packed(key):
            parts, meant[key] = pack(tensor, GROUP)
            stem = key.removesuffix("weight")
            disk |= {stem + part: value for part, value in parts.items()}
        else:
            disk[key] = meant[key] = tensor
    packed = written(folder / "packed", plain, disk, settings)
    return packed, written(folder / "floats", plain, meant, None), meant


@pytest.mark.parametrize("name", FORMATS)
def test_a_packed_checkpoint_equals_its_floats(
    name: str, plain: Any, tmp_path: Path, seed: int
) -> None:
    packed, floats, meant = packed_and_meant(plain, name, tmp_path)
    with Checkpoint.open(packed) as checkpoint:
        for key in filter(is_packed, meant):
            matrix = checkpoint.matrix(key.removesuffix(".weight"), *meant[key].shape)
            assert matrix is not None, key
            step = float(meant[key].abs().max()) * 1e-6
            assert float((float_matrix(matrix, torch.float32) - meant[key]).abs().max()) <= step
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 300, (41,), generator=generator).tolist()
    expected = LocalEngine.load(str(floats)).logits(ids)
    found = LocalEngine.load(str(packed)).logits(ids)
    assert float((found - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())
    one = LocalEngine.load(str(packed)).logits(ids[:1])
    assert float((one[0] - expected[0]).abs().max()) <= TOLERANCE * float(expected.abs().max())


def test_fp8_equals_transformers(plain: Any, tmp_path: Path, seed: int) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    packed, _, _ = packed_and_meant(plain, "fp8-bf16", tmp_path)
    settings = transformers.FineGrainedFP8Config(
        dequantize=True, weight_block_size=(32, 32), modules_to_not_convert=["lm_head", "mlp.gate"]
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(
        packed, quantization_config=settings, dtype=torch.float32, attn_implementation="eager"
    )
    ids = torch.randint(0, 300, (19,), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        expected = model(ids[None]).logits[0]
    found = LocalEngine.load(str(packed)).logits(ids.tolist())
    assert float((found - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())


@pytest.mark.parametrize("name", ["awq", "gptq", "fp8-bf16", "compressed", "qcoder-int4"])
def test_headers_alone_say_how_much_memory_is_needed(name: str, plain: Any, tmp_path: Path) -> None:
    packed, _, _ = packed_and_meant(plain, name, tmp_path)
    from qcoder.model.config import load_config
    from qcoder.model.registry import network_class

    config = load_config(packed)
    sizes = []
    for headers_only in (True, False):
        with Checkpoint.open(packed, headers_only) as checkpoint:
            network = network_class(config.model_type)
            sizes.append(network.load(checkpoint, config, torch.float32, 8).weight_bytes)
    assert sizes[0] == sizes[1]


def test_parts_of_a_layer_may_be_quantized_differently() -> None:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(63, 64, generator=generator)
    values, scale = quantize_int4(weight, 32)
    first = Rows(pack_int4(values), scale, 32)
    second = Rows(*(lambda r, s: (r, s[:, None]))(*quantize_int8(weight)), 64)
    both = Above((first, Floats(weight), second))
    whole = torch.cat([float_matrix(part, torch.float32) for part in both.parts])
    assert torch.equal(both.floats(40, 150), whole[40:150])
    x = torch.randn(3, 64, generator=generator)
    assert torch.allclose(both.product(x), x @ whole.T, atol=1e-4)


@pytest.mark.parametrize("group", [32, 128])
@pytest.mark.parametrize("rows", [1, 257])
def test_int4_is_off_by_half_a_step_except_where_it_is_cut(rows: int, group: int) -> None:
    weight = torch.randn(rows, 256, generator=torch.Generator().manual_seed(rows))
    weight[0, :group] = 0
    values, scale = quantize_int4(weight, group)
    assert (values.shape, scale.shape) == ((rows, 256), (rows, 256 // group))
    floats = dequantize(values, scale, 4)
    assert bool((floats[0, :group] == 0).all())
    steps = scale.float().abs().repeat_interleave(group, dim=1)
    off = (floats - weight).abs() > 0.5 * steps + 1e-6
    assert bool((weight.abs() > 6.4 * steps)[off].all())


def damaged(plain: Any, name: str, folder: Path, **changes: Any) -> str:
    """The complaint about a packed checkpoint with tensors replaced (None: left out)."""
    packed, _, _ = packed_and_meant(plain, name, folder)
    from safetensors.torch import load_file

    tensors = load_file(packed / "model.safetensors")
    stem = "model.layers.1.self_attn.o_proj."
    for part, value in changes.items():
        tensors[stem + part] = value
        if value is None:
            del tensors[stem + part]
    save_file(tensors, packed / "model.safetensors")
    with pytest.raises(CheckpointError) as error:
        LocalEngine.load(str(packed))
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("awq", {"scales": None}, "o_proj.scales' is missing"),
        ("awq", {"qweight": torch.zeros(3, 3, dtype=torch.int32)}, "o_proj.qweight' is [3, 3]"),
        ("gptq", {"qzeros": torch.zeros(1, 1, dtype=torch.int32)}, "o_proj.qzeros' is [1, 1]"),
        ("fp8-bf16", {"weight_scale_inv": torch.ones(1, 1)}, "o_proj.weight_scale_inv' is [1, 1]"),
        ("compressed", {"weight_scale": None}, "o_proj.weight_scale' is missing"),
        (
            "qcoder-int4",
            {"weight": torch.ones(2, 2, 288, dtype=torch.uint8)},
            "is [2, 2, 288], no til",
        ),
        (
            "compressed-int8",
            {"weight_zero_point": torch.ones(64, 1, dtype=torch.int8)},
            "makes int8 asymmetric",
        ),
        ("qcoder-fp8", {"weight_scale": torch.ones(2, 2, dtype=torch.int32)}, "o_proj.weight_"),
    ],
)
def test_a_damaged_packed_tensor_is_named(
    name: str, changes: dict[str, Any], expected: str, plain: Any, tmp_path: Path
) -> None:
    message = damaged(plain, name, tmp_path, **changes)
    assert expected in message
    assert message.startswith("model.safetensors: ")


@pytest.mark.parametrize(
    "settings",
    [
        {"quant_method": "awq", "bits": 8},
        {"quant_method": "gptq", "bits": 3},
        {"quant_method": "gptq", "checkpoint_format": "marlin"},
        {"quant_method": "fp8"},
        {"quant_method": "fp8", "weight_block_size": ["a", 1]},
        {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"},
        {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "config_groups": {"group_0": {"weights": {"num_bits": 8}}},
        },
    ],
)
def test_an_unknown_kind_of_a_format_is_refused(
    settings: dict[str, Any], plain: Any, tmp_path: Path
) -> None:
    folder = written(tmp_path / "odd", plain, plain.tensors, settings)
    with pytest.raises(CheckpointError, match=r"config.json: .*not supported"):
        LocalEngine.load(str(folder))
