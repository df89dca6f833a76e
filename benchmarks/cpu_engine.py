"""Prefill and decode on a CPU beside llama.cpp and transformers, on random weights of true shapes.

    python -P benchmarks/cpu_engine.py --peer-dir BUILD [--shape mid] [--rounds 5] [--format json]

BUILD holds `llama-bench` and `llama-quantize`. The same bfloat16 checkpoint is imported as int4 and
quantized to Q4_0; its files stay in `--folder` for the next run. Each round measures, one after the
other: reading memory (stream), ours, llama.cpp, transformers. Ratios are medians of the rounds'
own ratios, since the bandwidth of a machine drifts within minutes.

A token reads one of the two planes of our head (`head_precision.py` says what that costs); llama.cpp's is
Q6_K. `int8_head` figures are of an import with `--head int8`, which reads more than either.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qcoder.kernels.tiled import REFINED_SHARE
from qcoder.model.bench_report import Target, report
from qcoder.model.checkpoint import INDEX
from qcoder.model.exporter import export_gguf
from qcoder.model.generation import PREFILL_CHUNK
from qcoder.model.import_plan import Options
from qcoder.model.importer import import_model
from qcoder.model.local import LocalEngine
from qcoder.model.registry import DEFAULT_FOLDER
from qcoder.model.shard_writer import Entry, write_shard

PROMPT, DECODED, WARM = 512, 32, 64
COMMON: dict[str, Any] = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "rope_theta": 10_000_000.0,
    "max_position_embeddings": 262_144,
    "tie_word_embeddings": False,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "attention_bias": False,
    "torch_dtype": "bfloat16",
    "eos_token_id": 0,
}
SHAPES: dict[str, dict[str, Any]] = {
    "small": {
        "hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8,
        "num_key_value_heads": 2, "head_dim": 64, "num_experts": 32, "num_experts_per_tok": 4,
        "moe_intermediate_size": 256, "intermediate_size": 1024, "vocab_size": 16_384,
    },
    "mid": {
        "hidden_size": 2048, "num_hidden_layers": 4, "num_attention_heads": 32,
        "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8,
        "moe_intermediate_size": 768, "intermediate_size": 6144, "vocab_size": 151_936,
    },
}  # fmt: skip


def tensor_shapes(c: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The tensors of a checkpoint by the hub's names."""
    hidden, width, heads = c["hidden_size"], c["moe_intermediate_size"], c["head_dim"]
    out: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (c["vocab_size"], hidden)}
    for layer in range(c["num_hidden_layers"]):
        stem = f"model.layers.{layer}."
        out |= {
            f"{stem}{n}.weight": (hidden,) for n in ("input_layernorm", "post_attention_layernorm")
        }
        out |= {f"{stem}self_attn.{n}_norm.weight": (heads,) for n in "qk"}
        sizes = {"q": "num_attention_heads", "k": "num_key_value_heads", "v": "num_key_value_heads"}
        out |= {
            f"{stem}self_attn.{n}_proj.weight": (c[s] * heads, hidden) for n, s in sizes.items()
        }
        out[f"{stem}self_attn.o_proj.weight"] = (hidden, c["num_attention_heads"] * heads)
        out[f"{stem}mlp.gate.weight"] = (c["num_experts"], hidden)
        for expert in range(c["num_experts"]):
            at = f"{stem}mlp.experts.{expert}."
            out |= {f"{at}{n}_proj.weight": (width, hidden) for n in ("gate", "up")}
            out[f"{at}down_proj.weight"] = (hidden, width)
    return out | {"model.norm.weight": (hidden,), "lm_head.weight": (c["vocab_size"], hidden)}


def write_float(folder: Path, config: dict[str, Any]) -> None:
    """A bfloat16 checkpoint: one block of normal values repeated through all matrices, norms of 1."""
    folder.mkdir(parents=True)
    block = torch.randn((1 << 26) + 1, generator=torch.Generator().manual_seed(0))
    block = block.mul_(0.02).bfloat16()
    entries = [Entry(n, torch.bfloat16, shape) for n, shape in tensor_shapes(config).items()]

    def content() -> Iterator[Tensor]:
        at = 0
        for entry in entries:
            left = entry.size_bytes // 2
            if len(entry.shape) == 1:
                yield torch.ones(left, dtype=torch.bfloat16)
                continue
            while left:
                piece = block[at : at + left]
                yield piece
                left -= len(piece)
                at = (at + len(piece)) % len(block)

    name = "model-00001-of-00001.safetensors"
    write_shard(folder / name, entries, content(), lambda _: None)
    (folder / INDEX).write_text(
        json.dumps({"metadata": {}, "weight_map": {e.name: name for e in entries}})
    )
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(DEFAULT_FOLDER / "tokenizer.json", folder)


def prepare(folder: Path, config: dict[str, Any], peer: Path | None) -> None:
    """Write what is not there yet: bf16, int4 with both heads, and Q4_0.gguf."""
    if not (folder / "bf16").exists():
        print(f"writing {folder}", file=sys.stderr)
        write_float(folder / "bf16", config)
    for name, options in (("int4", Options()), ("int8-head", Options(head="int8"))):
        if not (folder / name).exists():
            import_model(folder / "bf16", folder / name, options)
    if peer and not (folder / "Q4_0.gguf").exists():
        export_gguf(folder / "bf16", folder / "bf16.gguf")
        run = [peer / "llama-quantize", folder / "bf16.gguf", folder / "Q4_0.gguf", "Q4_0"]
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (folder / "bf16.gguf").unlink()


def stream_gb_s(buffer: Tensor) -> float:
    """Bytes a second that reading a buffer far larger than the caches gets, the best of three."""
    best = 0.0
    for _ in range(3):
        began = time.perf_counter()
        buffer.sum()
        best = max(best, buffer.nbytes / (time.perf_counter() - began) / 1e9)
    return best


def ours(engine: LocalEngine) -> dict[str, float]:
    """Tokens a second of a prompt and of what follows nothing, as llama-bench measures."""
    ids = [(7919 * i) % 8000 for i in range(PROMPT)]
    model = engine._model
    with torch.inference_mode():
        model.forward(ids[:WARM], model.new_sequence())
        began = time.perf_counter()
        sequence = model.new_sequence()
        for start in range(0, PROMPT, PREFILL_CHUNK):
            model.forward(ids[start : start + PREFILL_CHUNK], sequence)
        prefill = PROMPT / (time.perf_counter() - began)
        sequence, times = model.new_sequence(), []
        for token in ids[:DECODED]:
            began = time.perf_counter()
            model.forward([token], sequence)
            times.append(time.perf_counter() - began)
    return {"prefill": prefill, "decode": 1 / statistics.median(times)}


def llama(peer: Path, file: Path, threads: int) -> dict[str, float]:
    """The same by llama-bench, one repetition."""
    run = [peer / "llama-bench", "-m", file, "-t", threads, "-p", PROMPT, "-n", DECODED, "-r", 1]
    done = subprocess.run(
        [*map(str, run), "-o", "json"], check=True, capture_output=True, text=True
    )
    tests = json.loads(done.stdout)
    names = {"prefill": lambda t: t["n_prompt"], "decode": lambda t: t["n_gen"]}
    return {n: next(t["avg_ts"] for t in tests if wanted(t)) for n, wanted in names.items()}


class Transformers:
    """Transformers in bfloat16, in a process of its own that measures when told to."""

    CODE = """
import sys, time, torch
from transformers import AutoModelForCausalLM
torch.set_num_threads(int(sys.argv[2]))
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16)
ids = torch.tensor([[(7919 * i) % 8000 for i in range(512)]])
with torch.inference_mode():
    model(ids[:, :64], logits_to_keep=1)
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        model(ids, logits_to_keep=1)
        print(512 / (time.perf_counter() - began), flush=True)
"""

    def __init__(self, folder: Path, threads: int) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-c", self.CODE, str(folder), str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._line()

    def prefill(self) -> float:
        """Tokens a second."""
        assert self._child.stdin is not None
        self._child.stdin.write("\n")
        self._child.stdin.flush()
        return float(self._line())

    def close(self) -> None:
        """End the process."""
        self._child.kill()
        self._child.wait()

    def _line(self) -> str:
        assert self._child.stdout is not None
        return self._child.stdout.readline()


def first_token(folder: Path, threads: int) -> dict[str, float]:
    """A fresh process: seconds to its first token after imports, and its memory over the file's."""
    code = (
        "import sys, time; from pathlib import Path; from qcoder.model.local import LocalEngine;"
        "from qcoder.model.request import GenerationRequest, Prompt; began = time.perf_counter();"
        "e = LocalEngine.load(sys.argv[1], max_context=2048, threads=int(sys.argv[2]));"
        "r = GenerationRequest(Prompt((5, 6, 7, 8)), max_tokens=1, mixture=False);"
        "list(e.generate(r)); print(time.perf_counter() - began);"
        "r = GenerationRequest(Prompt(tuple(i * 7919 % 8000 for i in range(512))), max_tokens=64,"
        " mixture=False); list(e.generate(r)); print(Path('/proc/self/status').read_text())"
    )
    run = [sys.executable, "-P", "-c", code, str(folder), str(threads)]
    times, lines = [], []
    for _ in range(3):
        done = subprocess.run(run, check=True, capture_output=True, text=True)
        lines = done.stdout.splitlines()
        times.append(float(lines[0]))
    resident = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
    size_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return {
        "first_token_s": statistics.median(times),
        "resident_over_file": resident / size_bytes,
    }


def active_bytes(c: dict[str, Any]) -> float:
    """Bytes of weights that a decoded token reads: of the head one plane, and of the other some."""
    hidden, heads = c["hidden_size"], c["head_dim"]
    shared = hidden * heads * (2 * c["num_attention_heads"] + 2 * c["num_key_value_heads"])
    experts = 3 * hidden * c["moe_intermediate_size"] * c["num_experts_per_tok"]
    layer = (shared + experts) * 4.5 / 8 + c["num_experts"] * hidden * 4
    head = c["vocab_size"] * hidden * 4.125 / 8 * (1 + 1 / REFINED_SHARE)
    return float(c["num_hidden_layers"] * layer + head)


def active_products(c: dict[str, Any]) -> float:
    """Multiplications and additions with weights of one prompt token."""
    hidden, heads = c["hidden_size"], c["head_dim"]
    shared = hidden * heads * (2 * c["num_attention_heads"] + 2 * c["num_key_value_heads"])
    experts = 3 * hidden * c["moe_intermediate_size"] * c["num_experts_per_tok"]
    return float(2 * c["num_hidden_layers"] * (shared + experts))


def int8_peak(threads: int) -> float:
    """Operations a second of torch's int8 product of 2048 x 2048 matrices."""
    torch.set_num_threads(threads)
    a = torch.randint(-100, 100, (2048, 2048), dtype=torch.int8)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        torch._int_mm(a, a)
        times.append(time.perf_counter() - began)
    return 2 * 2048**3 / min(times)


def measure(
    shape: str, folder: Path, peer: Path | None, rounds: int, threads: int
) -> tuple[dict[str, float], list[str]]:
    """All figures of one shape."""
    config, notes = {**COMMON, **SHAPES[shape]}, []
    prepare(folder, config, peer)
    engine = LocalEngine.load(str(folder / "int4"), max_context=2048, threads=threads)
    larger = LocalEngine.load(str(folder / "int8-head"), max_context=2048, threads=threads)
    buffer = torch.ones((1 << 30) // 8, dtype=torch.int64)
    theirs: Transformers | None = None
    rows: list[dict[str, float]] = []
    try:
        theirs = Transformers(folder / "bf16", threads)
    except (OSError, ValueError) as error:
        notes.append(f"transformers: {error}")
    for number in range(rounds):
        torch.set_num_threads(threads)
        row = {"stream_gb_s": stream_gb_s(buffer)}
        row |= {f"ours_{n}": v for n, v in ours(engine).items()}
        row["ours_int8_head_decode"] = ours(larger)["decode"]
        if peer:
            row |= {f"llama_{n}": v for n, v in llama(peer, folder / "Q4_0.gguf", threads).items()}
        if theirs:
            row["transformers_prefill"] = theirs.prefill()
        rows.append(row)
        print(f"{shape} {number} {row}", file=sys.stderr)
    if theirs:
        theirs.close()
    del engine, larger, buffer
    return figures_of(shape, config, rows, threads) | {
        f"{shape}_{n}": v for n, v in first_token(folder / "int4", threads).items()
    }, notes


def figures_of(
    shape: str, config: dict[str, Any], rows: list[dict[str, float]], threads: int
) -> dict[str, float]:
    """Medians, and medians of the rounds' ratios."""

    def median(value: Callable[[dict[str, float]], float]) -> float:
        return statistics.median(map(value, rows))

    out = {f"{shape}_{name}": median(lambda row, n=name: row[n]) for name in rows[0]}
    gb = active_bytes(config) / 1e9
    out[f"{shape}_decode_share_of_stream"] = median(
        lambda row: row["ours_decode"] * gb / row["stream_gb_s"]
    )
    out[f"{shape}_prefill_share_of_int8_peak"] = (
        out[f"{shape}_ours_prefill"] * active_products(config) / int8_peak(threads)
    )
    pairs = [("prefill", "llama"), ("decode", "llama"), ("int8_head_decode", "llama")]
    for what, whose in (*pairs, ("prefill", "transformers")):
        theirs = f"{whose}_{what.rpartition('_')[2]}"
        if theirs in rows[0]:
            out[f"{shape}_{what}_over_{whose}"] = median(
                lambda row, a=f"ours_{what}", b=theirs: row[a] / row[b]
            )
    return out


def default_decode(kernels: str) -> float:
    """Milliseconds a decode step of the default model behind 512 tokens, in a fresh process."""
    code = (
        "import torch, time; from qcoder.model.local import LocalEngine;"
        "m = LocalEngine.load('default', threads=1)._model; s = m.new_sequence(); t = []\n"
        "with torch.inference_mode():\n"
        " m.forward([i * 37 % 8000 for i in range(512)], s)\n"
        " for i in range(60):\n"
        "  b = time.perf_counter(); m.forward([i * 91 % 8000], s); t.append(time.perf_counter() - b)\n"
        "print(1000 * sorted(t)[30])"
    )
    environment = {**os.environ, "QCODER_KERNELS": kernels, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, check=True, capture_output=True
    )
    return float(done.stdout)


TARGETS = {
    "mid_prefill_over_llama": 2.5,
    "mid_prefill_over_transformers": 2.0,
    "small_prefill_over_llama": 1.5,
    "mid_prefill_share_of_int8_peak": 0.35,
    "mid_decode_share_of_stream": 0.75,
    "mid_decode_over_llama": 1.2,
    "small_decode_over_llama": 1.2,
    "default_decode_over_torch": 2.0,
}
LIMITS = {"mid_resident_over_file": 1.10, "mid_first_token_s": 1.5}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peer-dir", type=Path, help="the bin folder of a llama.cpp build")
    parser.add_argument("--shape", choices=(*SHAPES, "both"), default="both")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "qcoder-shapes"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text")
    args = parser.parse_args()
    figures: dict[str, float] = {}
    notes = [f"{args.threads} threads, {args.rounds} rounds, prompt of {PROMPT}, {DECODED} decoded"]
    if args.peer_dir is None:
        notes.append("no llama.cpp: give --peer-dir")
    for shape in SHAPES if args.shape == "both" else (args.shape,):
        found, more = measure(shape, args.folder / shape, args.peer_dir, args.rounds, args.threads)
        figures |= found
        notes += more
    steps = [(default_decode("torch"), default_decode("cpu")) for _ in range(args.rounds)]
    figures["default_decode_ms"] = statistics.median(own for _, own in steps)
    figures["default_decode_over_torch"] = statistics.median(plain / own for plain, own in steps)
    figures = {name: round(value, 4) for name, value in figures.items()}
    targets = [Target(n, ">=", v) for n, v in TARGETS.items() if n in figures]
    targets += [Target(n, "<=", v) for n, v in LIMITS.items() if n in figures]
    result = report(figures, targets, notes=notes)
    rows = (f"{name:36} {value}" for name, value in figures.items())
    print(json.dumps(result, indent=1) if args.format == "json" else "\n".join(rows))


if __name__ == "__main__":
    main()
