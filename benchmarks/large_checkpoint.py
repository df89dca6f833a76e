"""A random checkpoint of the true shape of a large model: import's disk format, load, memory, speed.

    python -P benchmarks/large_checkpoint.py --model 30b [--layers N] [--folder DIR] [--format json]

No real checkpoint of these models is at hand, and its float form does not fit on a laptop. So the
int4 that an import would write is written with random values, by the import's own plan and writer:
same tensors, same sizes, same files. What is measured does not depend on what the weights are: how
long it takes to load, what is resident, how fast it generates. With `--layers` fewer layers are
written, and the memory of all of them is projected from the same plan.

`--import-layers N` measures an import itself: a bfloat16 checkpoint with N layers is written and
imported by the command line in a process of its own, whose peak memory is taken.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qcoder.kernels.tiled import TILE_ROWS, TiledShape
from qcoder.model.bench_report import Target, report
from qcoder.model.checkpoint import INDEX, Checkpoint
from qcoder.model.config import load_config, parse_config
from qcoder.model.format_qcoder import reader as matrix_reader
from qcoder.model.import_plan import BITS, Item, Options, plan
from qcoder.model.importer import Journal, shard_name, write_rest
from qcoder.model.local import LocalEngine
from qcoder.model.memory import OVERHEAD_BYTES, VARIABLE, Need, available_bytes
from qcoder.model.registry import DEFAULT_FOLDER
from qcoder.model.request import GenerationRequest, Prompt
from qcoder.model.shard_writer import write_shard

CONTEXT = 2048
POOL_BYTES = 64 << 20
MODELS: dict[str, dict[str, Any]] = {
    "30b": {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "hidden_size": 2048,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
        "intermediate_size": 5472,
        "rope_theta": 10_000_000.0,
    },
    "next": {
        "architectures": ["Qwen3NextForCausalLM"],
        "model_type": "qwen3_next",
        "hidden_size": 2048,
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "num_experts": 512,
        "num_experts_per_tok": 10,
        "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512,
        "intermediate_size": 5120,
        "rope_theta": 10_000_000.0,
        "partial_rotary_factor": 0.25,
        "full_attention_interval": 4,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": 4,
    },
}
COMMON = {
    "vocab_size": 151_936,
    "max_position_embeddings": 262_144,
    "rms_norm_eps": 1e-6,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "eos_token_id": 151_645,
    "torch_dtype": "bfloat16",
}


class AnyTensor:
    """A file that says yes to every tensor: the shapes are those that the model asks for."""

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}

    def names(self) -> Iterable[str]:
        """None by name."""
        return ()

    def kind(self, name: str) -> str:
        """All of it is bfloat16."""
        return "BF16"

    def shape(self, name: str) -> tuple[int, ...]:
        """What `AskedShapes` was told."""
        return self.shapes[name]

    def tensor(self, name: str) -> Tensor:
        """Never read."""
        raise AssertionError("headers only")

    def close(self) -> None:
        """Nothing is open."""


class AnyName(dict[str, Path]):
    """Every tensor lies in one file."""

    def __missing__(self, _: str) -> Path:
        return Path("random")

    def get(self, _: str, default: Any = None) -> Any:
        """The one file, also for what was never heard of."""
        return Path("random")


class AskedShapes(Checkpoint):
    """Headers of a checkpoint that holds whatever an architecture asks for."""

    def raw(self, name: str, shape: tuple[int, ...] | None = None) -> Tensor:
        """A tensor of the shape that was asked for, without content."""
        assert shape is not None
        self._readers[Path("random")].shapes[name] = shape  # type: ignore[attr-defined]
        return torch.empty(shape, dtype=torch.bfloat16, device="meta")


def planned(config: dict[str, Any], options: Options) -> list[list[Item]]:
    """The files of a model of that shape."""
    headers = AskedShapes(
        Path(), AnyName(), True, [], {Path("random"): AnyTensor()}, matrix_reader({}), ExitStack()
    )
    return plan(headers, parse_config(config), options)


def random_content(items: Iterable[Item], scale: float) -> Iterator[Tensor]:
    """Bytes for the entries of items: values without bias, scales that make weights of a usual size."""
    generator = torch.Generator().manual_seed(0)
    floats = torch.randn(POOL_BYTES // 4, generator=generator) * 0.02
    pools: dict[tuple[str, int], Tensor] = {}
    at = 0
    for item in items:
        for entry in item.entries:
            if item.held in BITS:
                shape = (item.held, item.group)
                if shape not in pools:
                    pools[shape] = tile_pool(BITS[item.held], item.group, scale, generator)
                pool, unit = pools[shape], entry.shape[-1]
            else:
                pool, unit = floats.to(entry.dtype), 1
                pool = torch.ones_like(pool) if "norm" in entry.name else pool
            left = entry.size_bytes // entry.dtype.itemsize
            half = len(pool) // 2 // unit * unit
            while left:
                # Another start each time, so that no two matrices are equal.
                start = at * unit % half
                piece = pool[start : start + min(left, half)]
                at, left = at + 7919, left - len(piece)
                yield piece


def tile_pool(bits: int, group: int, scale: float, generator: torch.Generator) -> Tensor:
    """Bytes of many groups of a tile: random values, then the scales."""
    shape = TiledShape(TILE_ROWS, group, bits, group)
    count = POOL_BYTES // shape.group_bytes
    values = torch.randint(1, 1 << bits, (count, TILE_ROWS * group), generator=generator)
    values = values.to(torch.uint8)
    if bits == 4:
        values = values[:, ::2] | (values[:, 1::2] << 4)
    scales = torch.full((count, TILE_ROWS), scale * 16 / (1 << bits), dtype=torch.float16)
    return torch.cat([values, scales.view(torch.uint8)], dim=1).flatten()


def write_model(folder: Path, config: dict[str, Any], options: Options) -> float:
    """The checkpoint as an import leaves it; returns the seconds that it took."""
    began = time.perf_counter()
    source = folder.with_name(folder.name + "-source")
    source.mkdir(parents=True)
    (source / "config.json").write_text(json.dumps(config))
    shutil.copy(DEFAULT_FOLDER / "tokenizer.json", source)
    files = planned(config, options)
    journal = Journal.begin(folder, {})
    for number, items in enumerate(files):
        entries = [entry for item in items for entry in item.entries]
        path = folder / shard_name(number, len(files))
        print(f"writing {path.name}", file=sys.stderr)
        journal.add(write_shard(path, entries, random_content(items, 0.004), lambda _: None))
    if options.quantize == "none":  # a source to import: weights, index and no manifest
        names = {i.name: shard_name(n, len(files)) for n, items in enumerate(files) for i in items}
        (folder / INDEX).write_text(json.dumps({"weight_map": names}))
        shutil.copy(source / "config.json", folder)
        shutil.copy(source / "tokenizer.json", folder)
    else:
        write_rest(source, folder, files, options, journal)
    (folder / "import.json").unlink()
    shutil.rmtree(source)
    return time.perf_counter() - began


def resident() -> dict[str, float]:
    """Resident gigabytes of this process, and of them what is not a mapped file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = {line.split(":")[0]: line.split()[1] for line in lines if "kB" in line}
    return {
        "resident_gb": round(int(fields["VmRSS"]) * 1024 / 1e9, 2),
        "anonymous_gb": round(int(fields["RssAnon"]) * 1024 / 1e9, 2),
    }


def measure(folder: Path, tokens: int) -> dict[str, float]:
    """Load twice, the second time with what the first brought into the page cache; generate."""
    LocalEngine.load(str(folder), max_context=CONTEXT)
    began = time.perf_counter()
    engine = LocalEngine.load(str(folder), max_context=CONTEXT)
    loaded = time.perf_counter() - began
    figures = {"load_s": round(loaded, 2)}
    ids = tuple(1000 + 37 * i for i in range(4))
    request = GenerationRequest(Prompt(ids), max_tokens=tokens, mixture=False)
    count = len(list(engine.generate(request)))
    last = engine.stats().last
    figures["prefill_tokens_per_s"] = round(1000 * len(ids) / last.prefill_ms, 3)
    figures["decode_tokens_per_s"] = round(1000 * max(count - 1, 1) / last.decode_ms, 3)
    figures["weights_gb"] = round(engine.stats().weight_bytes / 1e9, 2)
    return figures | resident()


def measured_apart(folder: Path, tokens: int) -> dict[str, float]:
    """`measure` in a process of its own, which holds nothing else."""
    arguments = ["--measure", str(folder), "--tokens", str(tokens)]
    environment = {**os.environ, VARIABLE: "1"}
    done = subprocess.run(
        [sys.executable, "-P", __file__, *arguments],
        env=environment,
        check=True,
        capture_output=True,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def projected(config: dict[str, Any], options: Options) -> Need:
    """What the whole model needs: the bytes of its plan, and its cache."""
    files = planned(config, options)
    weights = sum(item.size_bytes for items in files for item in items)
    shape = parse_config(config)
    full_layers = shape.num_layers - len(shape.linear_layers)
    cache = 2 * full_layers * shape.num_kv_heads * shape.head_dim * 2 * CONTEXT
    return Need(weights, cache)


def import_peak(config: dict[str, Any], folder: Path) -> dict[str, float]:
    """Peak memory, over that of an idle process, and speed of an import by the command line."""
    write_model(folder / "bf16", config, Options("none", head="none"))
    code = (
        "import qcoder.model.importer, resource as r; print(r.getrusage(r.RUSAGE_SELF).ru_maxrss)"
    )
    idle = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=True)
    program = Path(sys.executable).with_name("qcoder")
    arguments = ["model", "import", str(folder / "bf16"), "--name", "measured"]
    environment = {"XDG_DATA_HOME": str(folder), "XDG_CACHE_HOME": str(folder), "PATH": "/usr/bin"}
    began = time.perf_counter()
    subprocess.run([program, *arguments], env=environment, check=True, stdout=sys.stderr)
    seconds = time.perf_counter() - began
    peak_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    largest = max(i.size_bytes for files in planned(config, Options("none")) for i in files)
    return {
        "import_peak_gb": round(peak_bytes / 1e9, 2),
        "import_peak_over_largest_tensor_gb": round((peak_bytes - largest) / 1e9, 2),
        "import_idle_gb": round(int(idle.stdout) * 1024 / 1e9, 2),
        "import_million_weights_per_s": round(
            load_config(folder / "bf16").parameters / seconds / 1e6, 1
        ),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=tuple(MODELS), default="30b")
    parser.add_argument("--layers", type=int, help="fewer than the model has")
    parser.add_argument("--import-layers", type=int, default=0)
    parser.add_argument("--group", type=int, choices=(32, 128), default=32)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--folder", type=Path, help="where to write; default a temporary folder")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.tokens)))
        return
    config = {**COMMON, **MODELS[args.model]}
    options = Options(group=args.group)
    whole = projected(config, options)
    figures = {"projected_weights_gb": round(whole.weights_bytes / 1e9, 2)}
    figures["projected_total_gb"] = round(whole.total_bytes / 1e9, 2)
    notes = [f"{args.model}: random weights, int4 in groups of {args.group}, head int8"]
    notes.append(f"projected with a context of {CONTEXT} and {OVERHEAD_BYTES >> 20} MB of overhead")
    notes.append(
        f"resident after 4 prompt tokens and {args.tokens} more: only experts that were chosen"
    )
    notes.append(f"{available_bytes() / 1e9:.1f} GB of memory were free; what is not is read again")
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        folder = Path(temporary)
        if args.import_layers:
            shallow = {**config, "num_hidden_layers": args.import_layers}
            figures |= import_peak(shallow, folder)
            shutil.rmtree(folder / "bf16")
        if args.layers:
            config["num_hidden_layers"] = args.layers
            notes.append(f"measured with {args.layers} layers")
        figures["write_s"] = round(write_model(folder / "model", config, options), 1)
        figures |= measured_apart(folder / "model", args.tokens)
    targets = [Target("load_s", "<=", 10.0), Target("resident_gb", "<=", 19.0)]
    if args.import_layers:
        targets.append(Target("import_peak_over_largest_tensor_gb", "<=", 1.0))
    result = report(figures, targets, notes=notes)
    if args.format == "json":
        print(json.dumps(result, indent=1))
        return
    for name, value in figures.items():
        print(f"{name:36} {value}")


if __name__ == "__main__":
    main()
