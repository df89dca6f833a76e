"""The draft layer of Qwen3-Next against one that is put together from transformers' parts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Qwen3NextConfig
from transformers.models.qwen3_next import modeling_qwen3_next as parts

from qcoder.kernels.rms_norm import rms_norm
from qcoder.model.checkpoint import Checkpoint
from qcoder.model.config import load_config
from qcoder.model.errors import CheckpointError
from qcoder.model.import_plan import Options
from qcoder.model.importer import import_model
from qcoder.model.kv_cache import Sequence
from qcoder.model.mtp import Mtp, load_mtp
from qcoder.model.registry import network_class

TOLERANCE = 2e-5
IDS = [5, 80, 200, 7, 7, 31, 18, 240, 99, 3, 61]


class Oracle(nn.Module):
    """The layer as the checkpoint's tensors name it."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        hidden, eps = config.hidden_size, config.rms_norm_eps
        self.pre_fc_norm_embedding = parts.Qwen3NextRMSNorm(hidden, eps=eps)
        self.pre_fc_norm_hidden = parts.Qwen3NextRMSNorm(hidden, eps=eps)
        self.fc = nn.Linear(2 * hidden, hidden, bias=False)
        self.layers = nn.ModuleList([parts.Qwen3NextDecoderLayer(config, 2)])
        self.norm = parts.Qwen3NextRMSNorm(hidden, eps=eps)
        self.rotary = parts.Qwen3NextRotaryEmbedding(config)

    def forward(self, embedded: Tensor, hidden: Tensor) -> Tensor:
        """[tokens, hidden] each; all of them at once."""
        both = torch.cat(
            [self.pre_fc_norm_embedding(embedded), self.pre_fc_norm_hidden(hidden)], -1
        )
        size = len(embedded)
        mask = torch.full((size, size), -torch.inf).triu(1)[None, None]
        x = self.fc(both)[None]
        cos_sin = self.rotary(x, torch.arange(size)[None])
        out = self.norm(self.layers[0](x, position_embeddings=cos_sin, attention_mask=mask))
        return out[0]  # type: ignore[no-any-return]


def disk_tensors(oracle: Oracle) -> dict[str, Tensor]:
    """Its weights by the names of the hub, an expert a tensor."""
    out = {}
    for name, tensor in oracle.state_dict().items():
        stem = "mtp." + name.rpartition(".")[0]
        if name.endswith("experts.gate_up_proj"):
            for e, both in enumerate(tensor):
                gate, up = both.chunk(2)
                out[f"{stem}.{e}.gate_proj.weight"] = gate.clone()
                out[f"{stem}.{e}.up_proj.weight"] = up.clone()
        elif name.endswith("experts.down_proj"):
            out |= {f"{stem}.{e}.down_proj.weight": down.clone() for e, down in enumerate(tensor)}
        else:
            out["mtp." + name] = tensor.clone()
    return out


@pytest.fixture(scope="module")
def folder(tiny_next: Any) -> Path:
    return Path(tiny_next.folder)


@pytest.fixture(scope="module")
def oracle(folder: Path) -> Oracle:
    config = Qwen3NextConfig.from_pretrained(folder)
    config._attn_implementation = config._experts_implementation = "eager"
    made = Oracle(config).eval()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in made.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = 0.2 * noise if "norm" in name else 0.1 * noise
    return made


def load(folder: Path) -> Any:
    config = load_config(folder)
    with Checkpoint.open(folder) as checkpoint:
        decoder = network_class("qwen3_next").load(checkpoint, config, torch.float32, 100)
        return decoder, load_mtp(checkpoint, decoder)


@pytest.fixture(scope="module")
def drafting(folder: Path, oracle: Oracle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with the layer."""
    path = tmp_path_factory.mktemp("mtp")
    for name in ("config.json", "tokenizer.json"):
        (path / name).write_bytes((folder / name).read_bytes())
    tensors = load_file(folder / "model.safetensors") | disk_tensors(oracle)
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    return path


@pytest.fixture(scope="module")
def mtp(drafting: Path) -> Mtp:
    found = load(drafting)[1]
    assert isinstance(found, Mtp)
    return found


def trunk(mtp: Mtp) -> Tensor:
    """What the head reads at every token of `IDS`."""
    decoder = mtp.decoder
    x = decoder.hidden(IDS, Sequence(decoder.cache_shape, len(IDS)))
    return rms_norm(x, decoder.norm, decoder.config.rms_norm_eps)


def check(found: Tensor, expected: Tensor) -> None:
    assert float(expected.std()) > 0.05
    assert float((found - expected).abs().max()) <= TOLERANCE


@torch.inference_mode()
def test_drafts_match_at_once_and_one_by_one(mtp: Mtp, oracle: Oracle) -> None:
    hidden, ids = trunk(mtp)[:-1], IDS[1:]
    expected = oracle(mtp.decoder.embedding[ids], hidden)
    sequence = Sequence(mtp.cache_shape)
    logits, states = mtp.forward(hidden, ids, sequence)
    check(states, expected)
    check(logits, expected @ mtp.decoder.head.weight.T)
    sequence = Sequence(mtp.cache_shape)
    parts = [mtp.forward(hidden[:4], ids[:4], sequence)[1]]
    parts += [mtp.forward(hidden[i : i + 1], ids[i : i + 1], sequence)[1] for i in range(4, 10)]
    check(torch.cat(parts), expected)
    sequence.check_integrity()


@torch.inference_mode()
def test_a_draft_goes_on_from_its_own_state(mtp: Mtp, oracle: Oracle) -> None:
    hidden, ids = trunk(mtp)[:-1], IDS[1:]
    sequence = Sequence(mtp.cache_shape)
    logits, states = mtp.forward(hidden, ids, sequence)
    token = int(logits[-1].argmax())
    _, more = mtp.forward(states[-1:], [token], sequence)
    expected = oracle(
        mtp.decoder.embedding[[*ids, token]], torch.cat([hidden, oracle_states(mtp, oracle)[-1:]])
    )
    check(more, expected[-1:])


def oracle_states(mtp: Mtp, oracle: Oracle) -> Tensor:
    states: Tensor = oracle(mtp.decoder.embedding[IDS[1:]], trunk(mtp)[:-1])
    return states


def test_a_checkpoint_without_the_layer_has_none(folder: Path) -> None:
    decoder, mtp = load(folder)
    assert mtp is None
    assert decoder.weight_bytes > 0


def test_a_part_that_is_missing_is_named(folder: Path, oracle: Oracle, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    tensors = load_file(folder / "model.safetensors") | disk_tensors(oracle)
    del tensors["mtp.fc.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"mtp\.fc.* missing"):
        load(tmp_path)


@pytest.mark.parametrize("held", ["int8", "none"])
@torch.inference_mode()
def test_an_import_keeps_the_layer(held: Any, drafting: Path, mtp: Mtp, tmp_path: Path) -> None:
    import_model(drafting, tmp_path / "mine", Options(quantize=held))
    decoder, kept = load(tmp_path / "mine")
    assert isinstance(kept, Mtp)
    hidden, ids = trunk(mtp)[:-1], IDS[1:]
    expected = mtp.forward(hidden, ids, Sequence(mtp.cache_shape))[1]
    found = kept.forward(hidden, ids, Sequence(kept.cache_shape))[1]
    tolerance = 0.05 if held == "int8" else 0.0
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())
    assert decoder.weight_bytes > 0
