"""Writes a model for other programs: a plain Hugging Face folder, or a GGUF file for llama.cpp.

Weights become floats (float32 for small models, which is exact for int8, bfloat16 for others); what
reads them needs nothing of ours. Everything is streamed: memory does not grow with the model.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qcoder.kernels.rotary import Yarn
from qcoder.model.checkpoint import INDEX, Checkpoint
from qcoder.model.config import ModelConfig, load_config
from qcoder.model.errors import CheckpointError
from qcoder.model.gguf_config import HUB_TOKENIZER, tokenizer_metadata
from qcoder.model.gguf_names import ARCHITECTURES, gguf_name
from qcoder.model.import_plan import Item, Options, plan, refuse_stacks
from qcoder.model.importer import EXTRA_FILES, Source, content, shard_name
from qcoder.model.json_file import read_json
from qcoder.model.shard_writer import write_shard

FLOAT32_PARAMETERS = 200_000_000
"""Up to here an export is float32."""

Progress = Callable[[str, int, int], None]


def export_hub(source: Path, target: Path, progress: Progress = lambda *_: None) -> None:
    """Write the model of folder `source` as the new folder `target`, as the hub has models.

    Raises `CheckpointError`; then nothing is left behind.
    """
    config, files = _floats(source, target)
    staging = target.with_name(f".{target.name}.exporting")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    total = sum(item.size_bytes for items in files for item in items)
    reader = Source(source)
    try:
        for number, items in enumerate(files):
            pieces = (piece for item in items for piece in content(reader, item))
            entries = [entry for item in items for entry in item.entries]
            path = staging / shard_name(number, len(files))
            write_shard(path, entries, pieces, lambda n: progress("exporting", n, total))
        names = {i.name: shard_name(n, len(files)) for n, items in enumerate(files) for i in items}
        (staging / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": names}, indent=1))
        data = _plain_config(source, _dtype(config))
        (staging / "config.json").write_text(json.dumps(data, indent=1) + "\n")
        for name in ("tokenizer.json", *EXTRA_FILES):
            if (source / name).is_file():
                shutil.copyfile(source / name, staging / name)
        staging.replace(target)
    except OSError as error:
        raise CheckpointError(f"{error.filename or target}: {error.strerror or error}") from None
    finally:
        reader.close()
        shutil.rmtree(staging, ignore_errors=True)


def export_gguf(source: Path, target: Path, progress: Progress = lambda *_: None) -> None:
    """Write the model of folder `source` as the new GGUF file `target`; raises `CheckpointError`."""
    try:
        import gguf  # an extra: only whoever exports such a file needs it
    except ImportError:
        raise CheckpointError(
            "writing GGUF needs the gguf package; pip install 'qcoder[gguf]'"
        ) from None
    config, files = _floats(source, target)
    architecture = next((a for a, kind in ARCHITECTURES.items() if kind == config.model_type), "")
    if config.model_type == "qwen3_next":
        raise CheckpointError(f"{source}: qwen3_next cannot be written as GGUF by this version")
    tensors = list(_gguf_tensors([item for items in files for item in items]))
    partial = target.with_name(f".{target.name}.part")
    writer = gguf.GGUFWriter(partial, architecture)
    _write_metadata(writer, source, config)
    for tensor in tensors:
        kind = gguf.GGMLQuantizationType.BF16 if tensor.is_bfloat16 else None
        # The writer takes bfloat16 as bytes, of which a row has two a weight.
        shape = (*tensor.shape[:-1], 2 * tensor.shape[-1]) if tensor.is_bfloat16 else tensor.shape
        dtype = "uint8" if tensor.is_bfloat16 else "float32"
        writer.add_tensor_info(tensor.name, shape, np.dtype(dtype), tensor.size_bytes, kind)
    reader = Source(source)
    total = sum(tensor.size_bytes for tensor in tensors)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in tensors:
            writer.write_tensor_data(tensor.read(reader).numpy())
            progress("exporting", tensor.size_bytes, total)
        writer.close()
        partial.replace(target)
    except OSError as error:
        raise CheckpointError(f"{error.filename or target}: {error.strerror or error}") from None
    finally:
        reader.close()
        partial.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _GgufTensor:
    """One tensor of the file, of one item or of an expert each."""

    name: str
    items: tuple[Item, ...]
    stacked: bool
    is_bfloat16: bool

    @property
    def shape(self) -> tuple[int, ...]:
        first = self.items[0].shape
        return (len(self.items), *first) if self.stacked else first

    @property
    def size_bytes(self) -> int:
        size_bytes = 2 if self.is_bfloat16 else 4
        for size in self.shape:
            size_bytes *= size
        return size_bytes

    def read(self, reader: Source) -> Tensor:
        """The content: float32, or bfloat16 as bytes."""
        dtype = torch.bfloat16 if self.is_bfloat16 else torch.float32
        parts = [
            torch.cat([piece.reshape(-1) for piece in content(reader, replace(item, dtype=dtype))])
            for item in self.items
        ]
        whole = torch.cat(parts).view(self.shape)
        return whole.view(torch.uint8) if self.is_bfloat16 else whole


def _gguf_tensors(items: list[Item]) -> Iterator[_GgufTensor]:
    """Tensors in GGUF's terms: experts of a layer together, vectors and routers in float32."""
    stacks: dict[str, list[Item]] = {}
    for item in items:
        before, _, rest = item.name.partition(".experts.")
        name = f"{before}.experts.{rest.partition('.')[2]}" if rest else item.name
        stacks.setdefault(name, []).append(item)
    for name, members in stacks.items():
        theirs = gguf_name(name if name.startswith(("model.", "lm_head")) else f"model.{name}")
        assert theirs is not None, f"no GGUF name for {name}"
        wide = len(members[0].shape) == 1 or ".mlp.gate." in name
        is_bfloat16 = members[0].dtype == torch.bfloat16 and not wide
        yield _GgufTensor(theirs, tuple(members), ".experts." in name, is_bfloat16)


def _floats(source: Path, target: Path) -> tuple[ModelConfig, list[list[Item]]]:
    """The config, and the float items of each file; raises `CheckpointError`."""
    if target.exists():
        raise CheckpointError(f"{target}: exists already; choose another name or delete it first")
    config = load_config(source)
    if config.quantization == "qcoder-int4":
        raise CheckpointError(f"{source}: is rounded to int4; export what it was imported from")
    with Checkpoint.open(source, headers_only=True) as checkpoint:
        refuse_stacks(checkpoint)
        files = plan(checkpoint, config, Options("none", head="none"))
    dtype = _dtype(config)
    return config, [[replace(item, dtype=dtype) for item in items] for items in files]


def _dtype(config: ModelConfig) -> torch.dtype:
    return torch.float32 if config.parameters <= FLOAT32_PARAMETERS else torch.bfloat16


def _plain_config(source: Path, dtype: torch.dtype) -> dict[str, Any]:
    data = read_json(source / "config.json", f"{source}: no config.json")
    for name in ("quantization_config", "compression_config", "dtype"):
        data.pop(name, None)
    return data | {"torch_dtype": str(dtype).removeprefix("torch.")}


def _write_yarn(writer: Any, yarn: Yarn) -> None:
    import gguf  # the caller has seen that it is there

    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(yarn.factor)
    writer.add_rope_scaling_orig_ctx_len(yarn.original_context)


def _write_metadata(writer: Any, source: Path, config: ModelConfig) -> None:
    """What llama.cpp has to know; the whole tokenizer.json is there too."""
    writer.add_name(source.name)
    writer.add_block_count(config.num_layers)
    writer.add_context_length(config.max_context)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.dense_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    if config.yarn is not None:
        if config.yarn != Yarn(config.yarn.factor, config.yarn.original_context):
            raise CheckpointError(f"{source}: GGUF has no place for this rope_scaling's details")
        _write_yarn(writer, config.yarn)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if config.num_experts:
        writer.add_expert_count(config.num_experts)
        writer.add_expert_used_count(config.experts_per_token)
        writer.add_expert_feed_forward_length(config.expert_size)
    tokenizer_json = (source / "tokenizer.json").read_text(encoding="utf-8")
    tokens = tokenizer_metadata(tokenizer_json, config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens["tokens"])
    writer.add_token_types(tokens["types"])
    writer.add_token_merges(tokens["merges"])
    if config.eos_ids:
        writer.add_eos_token_id(config.eos_ids[0])
    writer.add_add_bos_token(False)
    writer.add_string(HUB_TOKENIZER, tokenizer_json)
