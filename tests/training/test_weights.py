"""An exported folder, read back, is the network that was exported, up to int8."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from qcoder.model.errors import CheckpointError
from qcoder.training.export import hub_config, hub_tensors, quantized
from qcoder.training.network import Network, NetworkConfig
from qcoder.training.weights import load_network

SMALL = NetworkConfig(
    vocab_size=131, hidden_size=40, num_hidden_layers=2, num_attention_heads=3,
    num_key_value_heads=1, head_dim=16, num_experts=5, moe_intermediate_size=24, rope_theta=5e4,
)  # fmt: skip


def random_network() -> Network:
    """Every parameter differs from its initial value, norms too."""
    torch.manual_seed(5)
    network = Network(SMALL, 64)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def write_export(network: Network, folder: Path, **changes: object) -> Path:
    """The files of `export.py` that hold the network, with other values in config.json."""
    config = asdict(network.config)
    weights = {name: p.detach() for name, p in network.named_parameters()}
    folder.mkdir(exist_ok=True)
    save_file(quantized(hub_tensors(weights, config)), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**hub_config(config), **changes}))
    return folder


def test_exported_weights_come_back_up_to_int8(tmp_path: Path) -> None:
    network = random_network()
    loaded = load_network(write_export(network, tmp_path), 64)
    assert loaded.config == SMALL
    for (name, ours), (other, theirs) in zip(
        loaded.named_parameters(), network.named_parameters(), strict=True
    ):
        assert name == other
        if ours.dim() == 1 or name.endswith("router"):
            assert torch.equal(ours, theirs), name
        else:
            # Half a step of the row's scale.
            step = theirs.abs().amax(-1, keepdim=True) / 127
            assert ((ours - theirs).abs() <= 0.51 * step).all(), name


def test_loading_and_exporting_again_changes_nothing(tmp_path: Path) -> None:
    first = write_export(random_network(), tmp_path / "first")
    second = write_export(load_network(first, 64), tmp_path / "second")
    name = "model.safetensors"
    assert (first / name).read_bytes() == (second / name).read_bytes()


def test_a_loaded_network_computes_the_same_loss(tmp_path: Path) -> None:
    network = random_network()
    loaded = load_network(write_export(network, tmp_path), 64)
    ids = torch.randint(SMALL.vocab_size, (3, 33), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network(ids[:, :-1], ids[:, 1:])[0]
        found = loaded(ids[:, :-1], ids[:, 1:])[0]
    assert abs(found - expected) < 0.01 * expected


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tie_word_embeddings": False}, "embeddings differ"),
        ({"mlp_only_layers": [0]}, "dense layers"),
        ({"attention_bias": True}, "biases"),
        ({"norm_topk_prob": False}, "not renormalized"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "YaRN"),
    ],
)
def test_what_the_network_cannot_express_is_refused(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    folder = write_export(random_network(), tmp_path, **changes)
    with pytest.raises(CheckpointError, match=reason):
        load_network(folder, 64)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    folder = write_export(random_network(), tmp_path)
    (folder / "config.json").write_text(
        json.dumps(hub_config({**asdict(SMALL), "num_hidden_layers": 3}))
    )
    with pytest.raises(CheckpointError, match=r"model\.layers\.2\.input_layernorm"):
        load_network(folder, 64)
