"""Exports against transformers, which reads both forms without anything of ours."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from qcoder.model.config import load_config
from qcoder.model.errors import CheckpointError
from qcoder.model.exporter import export_gguf, export_hub
from qcoder.model.gguf_import import import_gguf
from qcoder.model.import_plan import Options
from qcoder.model.importer import import_model
from qcoder.model.local import LocalEngine
from qcoder.model.registry import DEFAULT_FOLDER

IDS = [5, 80, 200, 7, 7, 31, 2, 3]


def logits(folder: Path, **arguments: Any) -> torch.Tensor:
    """Of transformers."""
    transformers = pytest.importorskip("transformers")
    arguments = {"dtype": torch.float32, "attn_implementation": "eager"} | arguments
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, **arguments)
    with torch.no_grad():
        found: torch.Tensor = model(torch.tensor([IDS])).logits[0]
    return found


def test_a_folder_gives_transformers_the_same_logits(tmp_path: Path) -> None:
    export_hub(DEFAULT_FOLDER, tmp_path / "hub")
    expected = LocalEngine.load().logits(IDS)
    assert torch.allclose(logits(tmp_path / "hub"), expected, atol=2e-4)
    again = LocalEngine.load(str(tmp_path / "hub")).logits(IDS)
    assert torch.allclose(again, expected, atol=2e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]


def test_a_gguf_file_gives_the_same_logits_here_and_there(tmp_path: Path) -> None:
    export_gguf(DEFAULT_FOLDER, tmp_path / "small.gguf")
    import_gguf(tmp_path / "small.gguf", tmp_path / "back", Options("none"), lambda *_: None)
    expected = LocalEngine.load().logits(IDS)
    engine = LocalEngine.load(str(tmp_path / "back"))
    assert torch.allclose(engine.logits(IDS), expected, atol=2e-4)
    assert engine.tokenizer.hash == LocalEngine.load().tokenizer.hash
    (tmp_path / "alone").mkdir()
    (tmp_path / "small.gguf").rename(tmp_path / "alone" / "small.gguf")
    # transformers does not look for the size of the experts in the file.
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.from_pretrained(DEFAULT_FOLDER)
    del config.quantization_config
    theirs = logits(tmp_path / "alone", gguf_file="small.gguf", config=config)
    assert torch.allclose(theirs, expected, atol=2e-4)


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3"])
def test_dense_models_survive_the_way_through_gguf(
    model_type: str, tmp_path: Path, seed: int, tiny: Any
) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = getattr(transformers, model_type.title() + "Config")(
        vocab_size=320, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=32, tie_word_embeddings=False,
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(config).float()
    model.save_pretrained(tmp_path / "plain")
    tokenizer = (tiny.folder / "tokenizer.json").read_bytes()
    (tmp_path / "plain" / "tokenizer.json").write_bytes(tokenizer)
    export_gguf(tmp_path / "plain", tmp_path / "a.gguf")
    import_gguf(tmp_path / "a.gguf", tmp_path / "back", Options("none"), lambda *_: None)
    with torch.no_grad():
        expected = model(torch.tensor([IDS])).logits[0]
    assert torch.allclose(LocalEngine.load(str(tmp_path / "back")).logits(IDS), expected, atol=2e-5)


def test_a_longer_context_survives_the_way_through_gguf(tiny: Any, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    shutil.copytree(tiny.folder, tmp_path / "long")
    config = json.loads((tmp_path / "long" / "config.json").read_text())
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
    config["rope_scaling"] = scaling
    (tmp_path / "long" / "config.json").write_text(json.dumps(config))
    export_gguf(tmp_path / "long", tmp_path / "a.gguf")
    import_gguf(tmp_path / "a.gguf", tmp_path / "back", Options("none"), lambda *_: None)
    assert load_config(tmp_path / "back").yarn == load_config(tmp_path / "long").yarn
    config["rope_scaling"] = scaling | {"beta_fast": 16.0}
    (tmp_path / "long" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="no place for this rope_scaling"):
        export_gguf(tmp_path / "long", tmp_path / "b.gguf")


def test_what_cannot_be_exported_says_so_and_leaves_nothing(tiny: Any, tmp_path: Path) -> None:
    import_model(DEFAULT_FOLDER, tmp_path / "four", Options())
    for export in (export_hub, export_gguf):
        with pytest.raises(CheckpointError, match="is rounded to int4; export what it was"):
            export(tmp_path / "four", tmp_path / "out")
        with pytest.raises(CheckpointError, match="exists already"):
            export(tiny.folder, tmp_path / "four")
    assert [path.name for path in tmp_path.iterdir()] == ["four"]
