"""Damaged and unusual checkpoints: what is wrong, where, and what to do."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from qcoder.model.config import load_config, parse_config
from qcoder.model.errors import CheckpointError
from qcoder.model.local import LocalEngine
from qcoder.model.manifest import read_manifest, sha256, verify, verify_checksums
from qcoder.model.quant import dequantize_int8, quantize_int8
from qcoder.model.registry import find_model, model_names

IDS = [5, 80, 200, 7, 7, 31]


@pytest.fixture
def copy(tiny: Any, tmp_path: Path) -> Path:
    """A checkpoint that a test may damage."""
    return Path(shutil.copytree(tiny.folder, tmp_path / "model"))


def rewrite(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def complaint(folder: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        LocalEngine.load(str(folder))
    return str(error.value)


def test_a_missing_tensor_is_named_with_its_file(copy: Path, tiny: Any) -> None:
    tensors = dict(tiny.tensors)
    del tensors["model.layers.1.mlp.experts.3.up_proj.weight"]
    rewrite(copy, tensors)
    message = complaint(copy)
    assert "model.safetensors: tensor 'model.layers.1.mlp.experts.3.up_proj.weight'" in message
    assert "missing; download the checkpoint again" in message


def test_a_truncated_file_is_named(copy: Path) -> None:
    path = copy / "model.safetensors"
    for size in (path.stat().st_size - 1, 4000, 7, 0):
        os.truncate(path, size)
        message = complaint(copy)
        assert "model.safetensors: damaged or cut short" in message
        assert "download the checkpoint again" in message


def test_a_wrong_shape_says_both_shapes(copy: Path, tiny: Any) -> None:
    tensors = {**tiny.tensors, "model.norm.weight": torch.ones(49)}
    rewrite(copy, tensors)
    assert "tensor 'model.norm.weight' is [49], config.json says [48]" in complaint(copy)


def test_integers_are_no_weights(copy: Path, tiny: Any) -> None:
    rewrite(copy, {**tiny.tensors, "model.norm.weight": torch.ones(48, dtype=torch.int32)})
    assert "tensor 'model.norm.weight' is int32, expected F32" in complaint(copy)


def test_missing_files_are_named(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    assert "tokenizer.json: file is missing" in complaint(copy)
    shutil.copy(copy / "config.json", copy / "tokenizer.json")
    assert "tokenizer.json: cannot be read" in complaint(copy)
    (copy / "model.safetensors").unlink()
    (copy / "config.json").unlink()
    assert "neither a checkpoint folder" in complaint(copy)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model_type": "llama"}, "model_type 'llama' is not supported"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 2}}, "rope scaling 'llama3'"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantization 'bitsandbytes'"),
        ({"hidden_act": "gelu"}, "activation 'gelu'"),
        ({"num_key_value_heads": 3}, "do not fit"),
        ({"num_experts_per_tok": 6}, "6 of 5 experts"),
        ({"hidden_size": "wide"}, "invalid literal"),
        ({"num_hidden_layers": None}, "NoneType"),
        ({"decoder_sparse_step": 0}, "config.json"),
        ({"use_sliding_window": True}, "sliding window"),
        ({"vocab_size": 100}, "do not belong together"),
    ],
)
def test_an_unsupported_config_says_why(changes: dict[str, Any], expected: str, copy: Path) -> None:
    change_config(copy, **changes)
    assert expected in complaint(copy)


def test_broken_json_names_the_file(copy: Path) -> None:
    for text in ("{", "[]", "\xff"):
        (copy / "config.json").write_bytes(text.encode("latin-1"))
        assert "config.json" in complaint(copy)


def test_a_missing_key_is_named(copy: Path) -> None:
    data = json.loads((copy / "config.json").read_text())
    del data["hidden_size"]
    (copy / "config.json").write_text(json.dumps(data))
    assert "'hidden_size' is missing" in complaint(copy)


def test_both_config_styles_mean_the_same(tiny: Any) -> None:
    data = dict(tiny.config)
    new = {k: v for k, v in data.items() if k not in ("num_experts", "rope_theta", "torch_dtype")}
    del new["rope_scaling"]
    new |= {
        "num_local_experts": data["num_experts"],
        "rope_parameters": {"rope_type": "default", "rope_theta": data["rope_theta"]},
        "dtype": "float32",
    }
    assert parse_config(new) == parse_config(data)


def test_yarn_factor_extends_and_takes_away(tiny: Any) -> None:
    plain = load_config(tiny.folder)
    longer = load_config(tiny.folder, yarn_factor=4.0)
    assert longer.max_context == 4 * plain.max_context
    assert longer.yarn is not None
    assert load_config(tiny.folder, yarn_factor=1.0) == plain
    with pytest.raises(CheckpointError, match="at least 1"):
        load_config(tiny.folder, yarn_factor=0.5)


def shard(folder: Path, tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map: dict[str, str] = {}
    for part in range(3):
        file = f"model-0000{part + 1}-of-00003.safetensors"
        save_file({n: tensors[n] for n in names[part::3]}, folder / file)
        weight_map |= dict.fromkeys(names[part::3], file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return weight_map


def test_shards_equal_one_file(copy: Path, tiny: Any) -> None:
    shard(copy, tiny.tensors)
    whole = LocalEngine.load(str(tiny.folder)).logits(IDS)
    assert torch.equal(LocalEngine.load(str(copy)).logits(IDS), whole)


def test_a_missing_or_damaged_shard_is_named(copy: Path, tiny: Any) -> None:
    weight_map = shard(copy, tiny.tensors)
    lost = "model.layers.2.mlp.gate.weight"
    path = copy / weight_map[lost]
    kept = {n: t for n, t in tiny.tensors.items() if weight_map[n] == path.name and n != lost}
    save_file(kept, path)
    assert f"{path.name}: tensor {lost!r} is missing" in complaint(copy)
    path.unlink()
    assert f"{path.name}: file is missing" in complaint(copy)


@pytest.mark.parametrize("weight_map", [None, {}, {"a": "../../etc/passwd"}, {"a": 3}])
def test_a_damaged_shard_index_is_refused(weight_map: Any, copy: Path) -> None:
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert "weight_map is damaged" in complaint(copy)


def test_names_without_the_model_prefix_load_too(copy: Path, tiny: Any) -> None:
    rewrite(copy, {n.removeprefix("model."): t for n, t in tiny.tensors.items()})
    whole = LocalEngine.load(str(tiny.folder)).logits(IDS)
    assert torch.equal(LocalEngine.load(str(copy)).logits(IDS), whole)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_files_load(dtype: torch.dtype, copy: Path, tiny: Any) -> None:
    rewrite(copy, {n: t.to(dtype) for n, t in tiny.tensors.items()})
    exact = LocalEngine.load(str(tiny.folder)).logits(IDS)
    loaded = LocalEngine.load(str(copy)).logits(IDS)
    assert loaded.dtype == torch.float32
    assert 0 < float((loaded - exact).abs().max()) < 0.2


def test_a_bfloat16_engine_stays_close_to_float32(tiny: Any) -> None:
    exact = LocalEngine.load(str(tiny.folder)).logits(IDS).log_softmax(-1)
    rough = LocalEngine.load(str(tiny.folder), dtype="bfloat16").logits(IDS).log_softmax(-1)
    divergence = (exact.exp() * (exact - rough)).sum(-1)
    assert float(divergence.max()) < 0.01


def quantized(tensors: dict[str, torch.Tensor]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors on disk, and the floats that they stand for."""
    disk, meant = {}, {}
    for name, tensor in tensors.items():
        disk[name] = meant[name] = tensor
        if tensor.dim() == 2 and not name.endswith("mlp.gate.weight"):
            disk[name], disk[name + "_scale"] = quantize_int8(tensor)
            meant[name] = dequantize_int8(disk[name], disk[name + "_scale"])
    return disk, meant


def test_int8_weights_give_the_logits_of_their_dequantized_values(
    make_tiny: Callable[..., Any],
) -> None:
    eight = make_tiny(quantization_config={"quant_method": "qcoder-int8"})
    floats = make_tiny()
    disk, meant = quantized(eight.tensors)
    rewrite(eight.folder, disk)
    rewrite(floats.folder, meant)
    engine = LocalEngine.load(str(eight.folder))
    assert engine.info.quantization == "qcoder-int8"
    plain = LocalEngine.load(str(floats.folder))
    assert engine.stats().weight_bytes > plain.stats().weight_bytes, "packed for few tokens"
    for ids in ([5], IDS, IDS * 20):
        assert float((engine.logits(ids) - plain.logits(ids)).abs().max()) <= 2e-5
    name = "lm_head.weight_scale"
    rewrite(eight.folder, {n: t for n, t in disk.items() if n != name})
    assert f"tensor {name!r} is missing" in complaint(eight.folder)
    rewrite(eight.folder, {**disk, name: torch.ones(320, dtype=torch.int32)})
    assert f"tensor {name!r} is int32" in complaint(eight.folder)


def test_unknown_options_are_refused(tiny: Any) -> None:
    for option in ("device", "dtype", "quantize"):
        wrong: dict[str, Any] = {option: "int3"}
        with pytest.raises(CheckpointError, match=f"{option} 'int3'"):
            LocalEngine.load(str(tiny.folder), **wrong)


def with_manifest(folder: Path) -> dict[str, Any]:
    manifest = {
        "name": "tiny",
        "fim_order": "spm",
        "files": {
            p.name: {"sha256": sha256(p), "bytes": p.stat().st_size}
            for p in sorted(folder.iterdir())
        },
    }
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))
    return manifest


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def test_a_manifest_is_verified_once(copy: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    manifest = with_manifest(copy)
    assert verify(copy, cache) == manifest
    (record,) = (cache / "verified").iterdir()
    path = copy / "model.safetensors"
    stat = path.stat()
    flip_a_byte(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    verify(copy, cache)  # same size and time: remembered
    assert verify_checksums(copy) == ["model.safetensors"]
    record.write_text("rubbish")
    with pytest.raises(CheckpointError, match=r"model.safetensors: sha256 is .* is damaged"):
        verify(copy, cache)


def test_a_changed_file_is_verified_again(copy: Path, tmp_path: Path) -> None:
    with_manifest(copy)
    verify(copy, tmp_path / "cache")
    path = copy / "model.safetensors"
    flip_a_byte(path)
    os.utime(path, ns=(1, 1))
    with pytest.raises(CheckpointError, match="is damaged"):
        verify(copy, tmp_path / "cache")


def test_sizes_and_missing_files_are_seen_without_reading(copy: Path) -> None:
    with_manifest(copy)
    with (copy / "tokenizer.json").open("a") as file:
        file.write(" ")
    with pytest.raises(CheckpointError, match=r"tokenizer.json: has \d+ bytes, MANIFEST"):
        read_manifest(copy)
    (copy / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer.json: file is missing"):
        read_manifest(copy)


@pytest.mark.parametrize("files", [None, [], {"a": 1}, {"../x": {"sha256": "", "bytes": 1}}])
def test_a_damaged_manifest_is_refused(files: Any, copy: Path) -> None:
    (copy / "MANIFEST.json").write_text(json.dumps({"files": files}))
    with pytest.raises(CheckpointError, match="list of files is damaged"):
        read_manifest(copy)


def test_a_read_only_cache_folder_costs_nothing_but_time(copy: Path, tmp_path: Path) -> None:
    with_manifest(copy)
    (tmp_path / "file").write_text("in the way")
    assert verify(copy, tmp_path / "file")["name"] == "tiny"


def test_models_are_found_by_name(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qcoder.model.registry.models_folder", lambda: tmp_path)
    shutil.copytree(tiny.folder, tmp_path / "mine")
    assert model_names() == ("default", "mine")
    assert find_model("mine") == tmp_path / "mine"
    assert find_model(str(tiny.folder)) == tiny.folder
    # A workspace that has a folder of that name does not choose the model.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work").mkdir()
    shutil.copytree(tiny.folder, tmp_path / "work" / "mine")
    shutil.copytree(tiny.folder, tmp_path / "work" / "theirs")
    monkeypatch.chdir(tmp_path / "work")
    assert find_model("mine") == tmp_path / "mine"
    assert find_model("./theirs") == Path("theirs")
    with pytest.raises(CheckpointError, match=r"the folder here is ./theirs"):
        find_model("theirs")
    for wrong in ("other", "../nothing", str(tmp_path / "nothing")):
        with pytest.raises(CheckpointError, match="known names: default, mine"):
            find_model(wrong)


@pytest.mark.parametrize("shape", [(1, 1), (63, 100), (257, 3)])
def test_int8_rows_are_off_by_half_a_step_at_most(shape: tuple[int, int]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    weight[0] = 0
    rows, scale = quantize_int8(weight)
    assert (rows.dtype, scale.dtype, scale.shape) == (torch.int8, torch.float16, shape[:1])
    # A float16 scale may be rounded down: the largest weight then loses up to 127 roundings.
    slack = 0.5 * scale.float() + weight.abs().amax(1) * 2**-11
    assert bool(((dequantize_int8(rows, scale) - weight).abs() <= slack.unsqueeze(1)).all())
    assert bool((dequantize_int8(rows, scale)[0] == 0).all())
    assert int(rows.min()) >= -127
