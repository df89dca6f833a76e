"""GGUF: packed blocks against the gguf package, files of every architecture against their tensors."""

import json
import random
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize
from torch import Tensor

from qcoder.model.errors import CheckpointError
from qcoder.model.gguf_blocks import KINDS, dequantize_blocks
from qcoder.model.gguf_import import import_gguf
from qcoder.model.import_plan import Options
from qcoder.model.local import LocalEngine

SCALE_BYTES = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,),
    "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,),
}  # fmt: skip
"""Where a block has float16 scales, which random bytes would make infinite."""

TYPES = {name: getattr(gguf.GGMLQuantizationType, name) for name in (*KINDS, "F32", "F16", "BF16")}


def random_blocks(kind: str, rows: int, columns: int, seed: int) -> np.ndarray:
    """Rows of random bytes with small scales: [rows, bytes] uint8."""
    generator = np.random.default_rng(seed)
    block, size_bytes, _ = KINDS[kind]
    data = generator.integers(0, 256, (rows * columns // block, size_bytes), dtype=np.uint8)
    for at in SCALE_BYTES[kind]:
        scales = (generator.random(len(data)) * 0.01 + 0.001).astype(np.float16)
        data[:, at : at + 2] = scales.view(np.uint8).reshape(-1, 2)
    return data.reshape(rows, -1)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_become_the_floats_of_the_reference(kind: str, seed: int) -> None:
    packed = random_blocks(kind, 7, 512, seed)
    expected = dequantize(packed, TYPES[kind])
    found = dequantize_blocks(torch.from_numpy(packed), kind)
    assert np.array_equal(found.numpy(), expected)


class File:
    """A GGUF file that is being written: tensors by name, in a random kind that fits."""

    def __init__(self, path: Path, architecture: str, seed: int) -> None:
        self.path, self.rng = path, random.Random(seed)
        self.torch = torch.Generator().manual_seed(seed)
        self.writer = gguf.GGUFWriter(path, architecture)
        self.architecture = architecture
        self.meant: dict[str, Tensor] = {}

    def number(self, key: str, value: float) -> None:
        key = f"{self.architecture}.{key}"
        if isinstance(value, int):
            self.writer.add_uint32(key, value)
        else:
            self.writer.add_float32(key, value)

    def matrix(self, name: str, *shape: int, kinds: tuple[str, ...] = tuple(TYPES)) -> None:
        """Random weights; the floats they stand for go to `meant`."""
        fitting = [k for k in kinds if k not in KINDS or shape[-1] % KINDS[k][0] == 0]
        kind = self.rng.choice(fitting)
        weight = (torch.randn(shape, generator=self.torch) * 0.1).numpy()
        if kind in KINDS and kind not in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"):
            rows = int(np.prod(shape[:-1]))
            packed = random_blocks(kind, rows, shape[-1], self.rng.randrange(1 << 30))
            packed = packed.reshape(*shape[:-1], -1)
        else:
            packed = quantize(weight, TYPES[kind])
        self.writer.add_tensor(name, packed, raw_dtype=TYPES[kind])
        floats = dequantize(packed, TYPES[kind]) if kind != "F32" else packed
        self.meant[name] = torch.from_numpy(np.ascontiguousarray(floats, dtype=np.float32))

    def vector(self, name: str, *shape: int, low: float = 0.9, high: float = 1.1) -> None:
        values = torch.rand(shape, generator=self.torch) * (high - low) + low
        self.writer.add_tensor(name, values.numpy())
        self.meant[name] = values

    def close(self) -> None:
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()


SIZES = {
    "block_count": 2, "context_length": 512, "embedding_length": 256, "feed_forward_length": 288,
    "attention.head_count": 4, "attention.head_count_kv": 2, "attention.key_length": 64,
    "attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 1e6,
}  # fmt: skip
EXPERTS = {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 96}
LINEAR = {
    "ssm.conv_kernel": 4, "ssm.state_size": 32, "ssm.group_count": 2, "ssm.time_step_rank": 4,
    "ssm.inner_size": 128, "expert_shared_feed_forward_length": 64, "full_attention_interval": 2,
    "rope.dimension_count": 16,
}  # fmt: skip
VOCAB = 320


def attention(file: File, block: str, hidden: int, gate: bool = False) -> None:
    bias, norms = file.architecture == "qwen2", file.architecture != "qwen2"
    for name, size in (("q", 256 * (2 if gate else 1)), ("k", 128), ("v", 128)):
        file.matrix(f"{block}attn_{name}.weight", size, hidden)
        if bias:
            file.vector(f"{block}attn_{name}.bias", size, low=-0.1, high=0.1)
    file.matrix(f"{block}attn_output.weight", hidden, 256)
    for name in ("q", "k") if norms else ():
        file.vector(f"{block}attn_{name}_norm.weight", 64)


def linear_attention(file: File, block: str, hidden: int) -> None:
    file.matrix(f"{block}attn_qkv.weight", 64 + 64 + 128, hidden)
    file.matrix(f"{block}attn_gate.weight", 128, hidden)
    file.matrix(f"{block}ssm_ba.weight", 8, hidden, kinds=("F32",))
    file.vector(f"{block}ssm_conv1d.weight", 256, 4, low=-0.5, high=0.5)
    file.vector(f"{block}ssm_a", 4, low=-2.0, high=-0.1)
    file.vector(f"{block}ssm_dt.bias", 4, low=-1.0, high=1.0)
    file.vector(f"{block}ssm_norm.weight", 32)
    file.matrix(f"{block}ssm_out.weight", hidden, 128)


def mlp(file: File, block: str, hidden: int) -> None:
    if file.architecture in ("qwen2", "qwen3"):
        for name, shape in {
            "gate": (288, hidden),
            "up": (288, hidden),
            "down": (hidden, 288),
        }.items():
            file.matrix(f"{block}ffn_{name}.weight", *shape)
        return
    file.matrix(f"{block}ffn_gate_inp.weight", 4, hidden, kinds=("F32",))
    for name, shape in {"gate": (96, hidden), "up": (96, hidden), "down": (hidden, 96)}.items():
        file.matrix(f"{block}ffn_{name}_exps.weight", 4, *shape)
    if file.architecture == "qwen3next":
        file.vector(f"{block}ffn_gate_inp_shexp.weight", hidden, low=-0.1, high=0.1)
        for name, shape in {"gate": (64, hidden), "up": (64, hidden), "down": (hidden, 64)}.items():
            file.matrix(f"{block}ffn_{name}_shexp.weight", *shape)


def write_file(path: Path, architecture: str, seed: int) -> File:
    """A tiny file of random kinds in llama.cpp's layout."""
    file = File(path, architecture, seed)
    sparse = architecture in ("qwen3moe", "qwen3next")
    extra = (EXPERTS if sparse else {}) | (LINEAR if architecture == "qwen3next" else {})
    for key, value in (SIZES | extra).items():
        file.number(key, value)
    hidden = 256
    file.matrix("token_embd.weight", VOCAB, hidden)
    file.vector("output_norm.weight", hidden)
    if seed % 2:
        file.matrix("output.weight", VOCAB, hidden)
    for number in range(2):
        block = f"blk.{number}."
        next_ = architecture == "qwen3next"
        file.vector(f"{block}attn_norm.weight", hidden)
        file.vector(f"{block}{'post_attention_norm' if next_ else 'ffn_norm'}.weight", hidden)
        if next_ and number % 2 == 0:
            linear_attention(file, block, hidden)
        else:
            attention(file, block, hidden, gate=next_)
        mlp(file, block, hidden)
    file.close()
    return file


def hub_tensors(file: File) -> dict[str, Tensor]:
    """What the file means, under the hub's names: written down by hand, one rule after the other."""
    out: dict[str, Tensor] = {}
    simple = {
        "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
        "post_attention_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
        "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
        "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
        "ffn_gate_inp": "mlp.gate", "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
        "ffn_up_shexp": "mlp.shared_expert.up_proj", "ffn_down_shexp": "mlp.shared_expert.down_proj",
        "ssm_ba": "linear_attn.in_proj_ba", "ssm_norm": "linear_attn.norm",
        "ssm_out": "linear_attn.out_proj",
    }  # fmt: skip
    top = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    less = 1.0 if file.architecture == "qwen3next" else 0.0
    for name, tensor in file.meant.items():
        parts = name.split(".")
        if parts[0] != "blk":
            out[f"{top[parts[0]]}.weight"] = tensor - less if "norm" in name else tensor
            continue
        stem, layer = f"model.layers.{parts[1]}.", parts[2]
        if layer in simple:
            shifted = layer.endswith("norm") and layer != "ssm_norm"
            out[f"{stem}{simple[layer]}.{parts[3]}"] = tensor - less if shifted else tensor
        elif layer.endswith("_exps"):
            for e in range(4):
                out[f"{stem}mlp.experts.{e}.{layer[4:-5]}_proj.weight"] = tensor[e]
        elif layer == "ffn_gate_inp_shexp":
            out[f"{stem}mlp.shared_expert_gate.weight"] = tensor[None]
        elif layer == "ssm_a":
            out[f"{stem}linear_attn.A_log"] = torch.log(-tensor)
        elif layer == "ssm_dt":
            out[f"{stem}linear_attn.dt_bias"] = tensor
        elif layer == "ssm_conv1d":
            out[f"{stem}linear_attn.conv1d.weight"] = tensor[:, None]
        elif layer == "attn_qkv":
            gates = file.meant[f"blk.{parts[1]}.attn_gate.weight"]
            rows = []
            for head in range(2):
                rows += [*range(32 * head, 32 * head + 32), *range(64 + 32 * head, 96 + 32 * head)]
                rows += range(128 + 64 * head, 192 + 64 * head)
                rows += range(256 + 64 * head, 320 + 64 * head)
            out[f"{stem}linear_attn.in_proj_qkvz.weight"] = torch.cat((tensor, gates))[rows]
    return out


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "qwen3moe", "qwen3next"])
def test_a_file_equals_a_checkpoint_of_its_floats(
    architecture: str, tiny: Any, tmp_path: Path, seed: int
) -> None:
    from safetensors.torch import save_file

    (tmp_path / "tokenizer.json").write_bytes((tiny.folder / "tokenizer.json").read_bytes())
    for draw in (2 * seed, 2 * seed + 1):
        source = tmp_path / f"{draw}.gguf"
        file = write_file(source, architecture, draw)
        import_gguf(source, tmp_path / f"mine{draw}", Options("none"), lambda *_: None)
        source.unlink()
        floats = tmp_path / f"floats{draw}"
        floats.mkdir()
        config = json.loads((tmp_path / f"mine{draw}" / "config.json").read_text())
        del config["quantization_config"]
        (floats / "config.json").write_text(json.dumps(config))
        (floats / "tokenizer.json").write_bytes((tiny.folder / "tokenizer.json").read_bytes())
        tensors = {n: t.contiguous() for n, t in hub_tensors(file).items()}
        save_file(tensors, floats / "model.safetensors")
        ids = torch.randint(0, 300, (23,), generator=torch.Generator().manual_seed(draw)).tolist()
        expected = LocalEngine.load(str(floats), dtype="float32").logits(ids)
        found = LocalEngine.load(str(tmp_path / f"mine{draw}"), dtype="float32").logits(ids)
        largest = float(expected.abs().max())
        assert float((found - expected).abs().max()) <= 1e-4 * largest, config


def test_a_file_can_be_quantized_again(tiny: Any, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((tiny.folder / "tokenizer.json").read_bytes())
    write_file(tmp_path / "a.gguf", "qwen3next", 5)
    import_gguf(tmp_path / "a.gguf", tmp_path / "same", Options("none"), lambda *_: None)
    import_gguf(tmp_path / "a.gguf", tmp_path / "eight", Options("int8"), lambda *_: None)
    ids = [3, 7, 290, 14]
    exact = LocalEngine.load(str(tmp_path / "same"), dtype="float32").logits(ids).log_softmax(-1)
    engine = LocalEngine.load(str(tmp_path / "eight"), dtype="float32")
    rough = engine.logits(ids).log_softmax(-1)
    assert engine.info.quantization == "qcoder-int8"
    assert float((exact.exp() * (exact - rough)).sum(-1).max()) < 0.05
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a.gguf", "eight", "same", "tokenizer.json"
    ]  # fmt: skip


def complaint(source: Path, target: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        import_gguf(source, target / "mine", Options("none"), lambda *_: None)
    assert not target.exists() or not list(target.iterdir())
    return str(error.value)


def test_a_damaged_file_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    source, target = tmp_path / "a.gguf", tmp_path / "models"
    write_file(source, "qwen3", 0)
    whole = source.read_bytes()
    for size in (0, 3, 100, len(whole) // 2):
        source.write_bytes(whole[:size])
        assert "a.gguf: damaged or cut short" in complaint(source, target)
    source.write_bytes(whole)
    assert "is not known; put the model's tokenizer.json beside" in complaint(source, target)


def test_a_file_in_place_of_a_model_says_how_to_import_it(tmp_path: Path) -> None:
    write_file(tmp_path / "a.gguf", "qwen3", 0)
    with pytest.raises(CheckpointError, match=r"`qcoder model import .*a.gguf --name a`"):
        LocalEngine.load(str(tmp_path / "a.gguf"))


def test_a_kind_or_architecture_that_is_not_read_is_named(tmp_path: Path) -> None:
    for kind, architecture, expected in (
        ("Q2_K", "qwen3", "tensor 'token_embd.weight' is Q2_K, which is not read; use a file with"),
        ("Q8_0", "llama", "architecture 'llama' is not supported"),
    ):
        source = tmp_path / f"{kind}.gguf"
        writer = gguf.GGUFWriter(source, architecture)
        data = np.zeros(
            (4, gguf.quant_shape_to_byte_shape((256,), gguf.GGMLQuantizationType[kind])[0]),
            dtype=np.uint8,
        )
        writer.add_tensor("token_embd.weight", data, raw_dtype=gguf.GGMLQuantizationType[kind])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        assert expected in complaint(source, tmp_path / "models")
