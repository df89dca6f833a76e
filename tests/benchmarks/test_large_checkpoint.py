"""The sizes that the benchmark writes are those of the real models."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from qcoder.model.config import parse_config
from qcoder.model.import_plan import Options

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "large_checkpoint.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("large_checkpoint", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("model", "parameters"), [("30b", 30.53e9), ("next", 79.67e9)])
def test_the_shape_has_as_many_parameters_as_published(
    model: str, parameters: float, script: ModuleType
) -> None:
    config = parse_config({**script.COMMON, **script.MODELS[model]})
    assert config.parameters == pytest.approx(parameters, rel=1e-3)


def test_a_plan_of_two_layers_grows_to_the_published_size(script: ModuleType) -> None:
    sizes = {}
    for layers in (1, 2):
        config = {**script.COMMON, **script.MODELS["30b"], "num_hidden_layers": layers}
        files = script.planned(config, Options())
        sizes[layers] = sum(item.size_bytes for items in files for item in items)
    whole = sizes[1] + 47 * (sizes[2] - sizes[1])
    assert 17.7e9 < whole < 17.9e9


def test_a_written_model_loads_and_generates(script: ModuleType, tmp_path: Path) -> None:
    small = {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 32, "num_experts": 4, "num_experts_per_tok": 2,
        "moe_intermediate_size": 64, "vocab_size": 8192,
    }  # fmt: skip
    config = {**script.COMMON, **script.MODELS["30b"], **small}
    script.POOL_BYTES = 1 << 16
    script.write_model(tmp_path / "model", config, Options())
    figures = script.measure(tmp_path / "model", 3)
    assert figures["decode_tokens_per_s"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
