"""Imports: what is written, what is kept, what an interruption and an error leave behind."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from qcoder.kernels.tiled import dequantize, quantize
from qcoder.model import import_plan, importer
from qcoder.model.errors import CheckpointError
from qcoder.model.exporter import export_hub
from qcoder.model.import_plan import Options, fitting
from qcoder.model.importer import import_model
from qcoder.model.local import LocalEngine
from qcoder.model.manifest import read_manifest, verify_checksums
from qcoder.model.quant import dequantize_int8, quantize_fp8, quantize_int4

IDS = [5, 80, 200, 7, 7, 31, 2, 3]


@pytest.fixture(scope="module")
def source(make_tiny: Any) -> Any:
    """Large enough that everything is quantized."""
    return make_tiny(
        seed=4, hidden_size=128, head_dim=32, moe_intermediate_size=64, num_key_value_heads=2
    )


def copied(source: Any, folder: Path) -> Path:
    return Path(shutil.copytree(source.folder, folder / "source"))


def is_quantized(name: str) -> bool:
    return "_proj." in name or name.startswith("lm_head")


def rounded(name: str, tensor: Tensor, options: Options) -> Tensor:
    """What an import should make of a tensor."""
    held = options.head if name.startswith("lm_head") else options.quantize
    if not is_quantized(name) or held == "none":
        return tensor
    if held == "fp8":
        return dequantize_int8(*quantize_fp8(tensor))
    group = options.group if held == "int4" else 128
    group = group if tensor.shape[1] % group == 0 else 32
    if held == "int4x2":
        first = dequantize(*quantize_int4(tensor, group, clips=(1.0,)), 4)
        return first + dequantize(*quantize_int4(tensor - first, group), 4)
    if held == "int8":
        return dequantize(*quantize(tensor, 8, group), 8)
    return dequantize(*quantize_int4(tensor, group), 4)


@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(group=128, head="int4"),
        Options(quantize="int8", head="none"),
        Options(quantize="fp8", head="int8"),
        Options(quantize="int8", head="int4x2"),
    ],
)
def test_an_import_computes_with_the_rounded_weights(
    options: Options, source: Any, tmp_path: Path
) -> None:
    import_model(source.folder, tmp_path / "mine", options)
    meant = copied(source, tmp_path)
    tensors = {n: rounded(n, t, options) for n, t in source.tensors.items()}
    save_file(tensors, meant / "model.safetensors")
    expected = LocalEngine.load(str(meant)).logits(IDS)
    engine = LocalEngine.load(str(tmp_path / "mine"))
    assert torch.allclose(engine.logits(IDS), expected, atol=1e-4 * float(expected.abs().max()))
    assert engine.info.quantization == f"qcoder-{options.quantize}"
    assert engine.info.name == "mine"


def test_what_is_not_a_matrix_of_a_layer_is_kept_exactly(source: Any, tmp_path: Path) -> None:
    import_model(source.folder, tmp_path / "mine", Options())
    found: dict[str, Tensor] = {}
    for path in (tmp_path / "mine").glob("*.safetensors"):
        found |= load_file(path)
    kept = {name for name in source.tensors if not is_quantized(name)}
    assert all(torch.equal(found[name], source.tensors[name]) for name in kept)
    assert "model.layers.0.mlp.gate.weight" in kept
    stack = found["model.layers.2.mlp.experts.gate_up_proj.weight"]
    assert (stack.dtype, stack.shape) == (torch.uint8, (5, 8, 4, 288))


def test_no_quantization_copies_the_files(source: Any, tmp_path: Path) -> None:
    import_model(source.folder, tmp_path / "mine", Options(quantize="none"))
    old, new = source.folder / "model.safetensors", tmp_path / "mine" / "model.safetensors"
    assert old.read_bytes() == new.read_bytes()
    expected = LocalEngine.load(str(source.folder)).logits(IDS)
    assert torch.equal(LocalEngine.load(str(tmp_path / "mine")).logits(IDS), expected)


def test_every_file_has_its_checksum(source: Any, tmp_path: Path) -> None:
    result = import_model(source.folder, tmp_path / "mine", Options())
    manifest = read_manifest(result.folder)
    names = {path.name for path in result.folder.iterdir()} - {"MANIFEST.json"}
    assert set(manifest["files"]) == names
    assert verify_checksums(result.folder) == []
    (shard,) = result.folder.glob("*.safetensors")
    data = bytearray(shard.read_bytes())
    data[-3] ^= 4
    shard.write_bytes(data)
    assert verify_checksums(result.folder) == [shard.name]


def test_an_interrupted_import_goes_on_with_the_next_file(
    source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_plan, "SHARD_BYTES", 60_000)
    import_model(source.folder, tmp_path / "whole", Options())
    shards = len(list((tmp_path / "whole").glob("*.safetensors")))
    pieces = 0

    def interrupt(what: str, size_bytes: int, total_bytes: int) -> None:
        nonlocal pieces
        pieces += 1
        if pieces == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_model(source.folder, tmp_path / "mine", Options(), interrupt)
    assert not (tmp_path / "mine").exists()
    assert list(tmp_path.glob(".mine.importing/*.part"))
    result = import_model(source.folder, tmp_path / "mine", Options())
    assert 0 < result.resumed_files < shards
    for path in (tmp_path / "whole").glob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "mine" / path.name).read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "whole"]


def test_an_interrupted_import_needs_room_for_the_rest_only(
    source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_plan, "SHARD_BYTES", 60_000)
    monkeypatch.setattr(importer, "write_rest", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        import_model(source.folder, tmp_path / "mine", Options())
    monkeypatch.undo()
    monkeypatch.setattr(import_plan, "SHARD_BYTES", 60_000)
    last = sorted(tmp_path.glob(".mine.importing/*.safetensors"))[-1]
    journal = json.loads((tmp_path / ".mine.importing" / importer.JOURNAL).read_text())
    left = journal["done"].pop(last.name)["size_bytes"]
    (tmp_path / ".mine.importing" / importer.JOURNAL).write_text(json.dumps(journal))
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _: usage._replace(free=left // 2))
        with pytest.raises(CheckpointError, match="make room"):
            import_model(source.folder, tmp_path / "mine", Options())
    with monkeypatch.context() as enough:
        enough.setattr(shutil, "disk_usage", lambda _: usage._replace(free=left))
        result = import_model(source.folder, tmp_path / "mine", Options())
    assert result.resumed_files == len(journal["done"]) > 0


def test_other_options_begin_anew(
    source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_plan, "SHARD_BYTES", 60_000)
    monkeypatch.setattr(importer, "write_rest", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        import_model(source.folder, tmp_path / "mine", Options())
    monkeypatch.undo()
    result = import_model(source.folder, tmp_path / "mine", Options(quantize="int8"))
    assert result.resumed_files == 0
    assert LocalEngine.load(str(result.folder)).info.quantization == "qcoder-int8"


def test_a_full_disk_is_seen_before_anything_is_written(
    source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(CheckpointError, match=r"needs 0.0 GB of disk, 0.0 free; make room"):
        import_model(source.folder, tmp_path / "models" / "mine", Options())
    assert list((tmp_path / "models").iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing(
    source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device", "model-00001")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        import_model(source.folder, tmp_path / "models" / "mine", Options())
    assert list((tmp_path / "models").iterdir()) == []


def test_an_existing_model_is_not_overwritten(source: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(CheckpointError, match="exists already"):
        import_model(source.folder, tmp_path / "mine", Options())


def shard(folder: Path, tensors: dict[str, Tensor]) -> list[Path]:
    (folder / "model.safetensors").unlink()
    names, files, weight_map = sorted(tensors), [], {}
    for part in range(3):
        files.append(folder / f"model-0000{part + 1}-of-00003.safetensors")
        save_file({n: tensors[n] for n in names[part::3]}, files[-1])
        weight_map |= dict.fromkeys(names[part::3], files[-1].name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return files


def truncated(folder: Path, files: list[Path]) -> None:
    os.truncate(files[1], files[1].stat().st_size // 2)


def empty(folder: Path, files: list[Path]) -> None:
    os.truncate(files[1], 0)


def missing(folder: Path, files: list[Path]) -> None:
    files[1].unlink()


def pickled(folder: Path, files: list[Path]) -> None:
    torch.save({"a": torch.ones(3)}, files[1])


def only_a_pickle(folder: Path, files: list[Path]) -> None:
    (folder / "model.safetensors.index.json").unlink()
    torch.save({"a": torch.ones(3)}, folder / "pytorch_model.bin")


def published_otherwise(folder: Path, files: list[Path]) -> None:
    (folder / "SHA256SUMS").write_text(f"{'ab' * 32}  {files[1].name}\n")


def downloaded_otherwise(folder: Path, files: list[Path]) -> None:
    path = folder / ".cache" / "huggingface" / "download" / f"{files[1].name}.metadata"
    path.parent.mkdir(parents=True)
    path.write_text(f"commit\n{'ab' * 32}\n1.0\n")


def cached_otherwise(folder: Path, files: list[Path]) -> None:
    blob = folder / "blobs" / ("ab" * 32)
    blob.parent.mkdir()
    files[1].rename(blob)
    files[1].symlink_to(blob)


def config(**changes: Any) -> Any:
    def change(folder: Path, files: list[Path]) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def outside(folder: Path, files: list[Path]) -> None:
    weight_map = {"model.norm.weight": "../../secret.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def replaced(name: str, value: Tensor | None) -> Any:
    def change(folder: Path, files: list[Path]) -> None:
        path = next(file for file in files if name in load_file(file))
        tensors = load_file(path)
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
        save_file(tensors, path)

    return change


def huge_header(folder: Path, files: list[Path]) -> None:
    files[1].write_bytes((1 << 62).to_bytes(8, "little") + b"{}")


EXPERT = "model.layers.1.mlp.experts.3.up_proj.weight"
SECOND = "model-00002-of-00003.safetensors"
HOSTILE: list[tuple[Any, str]] = [
    (truncated, f"{SECOND}: damaged or cut short"),
    (empty, f"{SECOND}: damaged or cut short (it is empty)"),
    (missing, f"{SECOND}: file is missing; download"),
    (pickled, f"{SECOND}: is a pickle"),
    (only_a_pickle, "pytorch_model.bin: is a pickle"),
    (published_otherwise, f"{SECOND}: sha256 is "),
    (downloaded_otherwise, f"{SECOND}: sha256 is "),
    (cached_otherwise, f"{SECOND}: sha256 is "),
    (huge_header, f"{SECOND}: damaged or cut short"),
    (outside, "index.json: weight_map is damaged"),
    (config(model_type="llama"), "config.json: model_type 'llama' is not supported"),
    (config(num_hidden_layers=10**9), "config.json: num_hidden_layers 1000000000 is absurd"),
    (config(hidden_size=1 << 16), "'lm_head.weight' is [320, 128], config.json says [320, 65536]"),
    (config(num_experts=500), "mlp.gate.weight' is [5, 128], config.json says [500, 128]"),
    (config(vocab_size=100), "do not belong together"),
    (replaced(EXPERT, None), f"{EXPERT!r} is missing; download"),
    (replaced(EXPERT, torch.ones(3, 3)), f"{EXPERT!r} is [3, 3], config.json says [64, 128]"),
    (replaced(EXPERT, torch.ones(64, 128, dtype=torch.int32)), f"{EXPERT!r} is int32, expected"),
    (replaced(EXPERT, torch.full((64, 128), torch.nan)), f"{EXPERT!r} holds values that are not"),
]


@pytest.mark.parametrize(("damage", "expected"), HOSTILE)
def test_a_bad_source_is_named_and_leaves_nothing(
    damage: Any, expected: str, source: Any, tmp_path: Path
) -> None:
    folder = copied(source, tmp_path)
    damage(folder, shard(folder, source.tensors))
    with pytest.raises(CheckpointError) as error:
        import_model(folder, tmp_path / "models" / "mine", Options())
    message = str(error.value)
    assert expected in message
    assert "\n" not in message
    assert not (tmp_path / "models").exists() or not list((tmp_path / "models").iterdir())


def test_matching_checksums_of_a_download_are_accepted(source: Any, tmp_path: Path) -> None:
    folder = copied(source, tmp_path)
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    (folder / "model.safetensors.sha256").write_text(f"{digest} *model.safetensors\n")
    assert import_model(folder, tmp_path / "mine", Options()).resumed_files == 0


def test_int4_of_ours_is_not_rounded_again(source: Any, tmp_path: Path) -> None:
    import_model(source.folder, tmp_path / "once", Options())
    with pytest.raises(CheckpointError, match="is int4 of qcoder already"):
        import_model(tmp_path / "once", tmp_path / "twice", Options(quantize="int8"))


@pytest.mark.parametrize(
    ("held", "shape", "expected"),
    [
        ("int4", (64, 256), ("int4", 128)),
        ("int4", (64, 96), ("int4", 32)),
        ("int4", (64, 100), ("none", 0)),
        ("int4", (72, 128), ("none", 0)),
        ("int8", (64, 96), ("int8", 32)),
        ("int4", (63, 128), ("none", 0)),
        ("int8", (65, 101), ("none", 0)),
        ("fp8", (64, 101), ("fp8", 0)),
        ("none", (640, 128), ("none", 0)),
        ("int4", (4096,), ("none", 0)),
    ],
)
def test_odd_shapes_are_held_in_the_next_best_way(
    held: Any, shape: tuple[int, ...], expected: tuple[str, int]
) -> None:
    assert fitting(held, shape, 128) == expected


@pytest.mark.parametrize("sizes", [(128, 32), (32, 128)])
def test_experts_with_one_small_side_stay_floats_on_both(
    sizes: tuple[int, int], make_tiny: Any, tmp_path: Path
) -> None:
    hidden, width = sizes
    tiny = make_tiny(seed=6, hidden_size=hidden, head_dim=32, moe_intermediate_size=width)
    import_model(tiny.folder, tmp_path / "mine", Options(head="none"))
    engine = LocalEngine.load(str(tmp_path / "mine"))
    assert len(engine.logits(IDS)) == len(IDS)
    (shard,) = (tmp_path / "mine").glob("*.safetensors")
    found, experts = load_file(shard), [n for n in tiny.tensors if ".experts." in n]
    assert all(torch.equal(found[name], tiny.tensors[name]) for name in experts)


@pytest.mark.parametrize("held", ["int8", "fp8"])
def test_experts_that_lie_together_are_not_lost_in_a_second_import_or_export(
    held: Any, source: Any, tmp_path: Path
) -> None:
    import_model(source.folder, tmp_path / "once", Options(quantize=held))
    with pytest.raises(CheckpointError, match=r"experts of a layer lie together"):
        import_model(tmp_path / "once", tmp_path / "twice", Options())
    with pytest.raises(CheckpointError, match=r"experts of a layer lie together"):
        export_hub(tmp_path / "once", tmp_path / "plain")
    again = import_model(tmp_path / "once", tmp_path / "copy", Options(quantize="none"))
    assert LocalEngine.load(str(again.folder)).info.quantization == f"qcoder-{held}"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy", "once"]
