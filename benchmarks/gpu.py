"""The Triton kernels on a GPU: first parity, then times of kernels and of the whole engine.

    python -P benchmarks/gpu.py [--stages parity,kernels,decode,prefill,sparse,peer] [--format json]
    TRITON_INTERPRET=1 python -P benchmarks/gpu.py --rehearse

Checkpoints of the real shapes with random weights are made on the device. Every figure is a share of
what the device itself reaches in the same run: bytes against a copy, operations against a product of
matrices. A stage that fails is named, the others go on. `--rehearse` runs all of it with tiny shapes on
the CPU, where the figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch
import triton

sys.path.insert(0, str(Path(__file__).resolve().parent))

from gpu_shapes.checkpoints import Shape, checkpoint, fewer_layers, model, random_matrix
from gpu_shapes.needles import Haystack, accuracy, make_task
from gpu_shapes.parity import parity, random_routed
from gpu_shapes.run import KINDS, Run, free, share
from gpu_shapes.timing import clocks, copy_bandwidth, matrix_peak, seconds

from qcoder.kernels.gpu.attention_decode import Places, attention_decode, decode_scratch
from qcoder.kernels.gpu.attention_prefill import attention_blocks
from qcoder.kernels.gpu.attention_sparse import attention_sparse
from qcoder.kernels.gpu.configs import DOT_TORCH
from qcoder.kernels.gpu.experts import experts_inner, experts_outer
from qcoder.kernels.gpu.heads import Heads
from qcoder.kernels.gpu.matrix import GpuMatrix
from qcoder.kernels.gpu.pages import PAGE, layer_pages, rotation
from qcoder.kernels.gpu.router import Routed
from qcoder.model.bench_report import Target, report
from qcoder.model.decoder import Pass
from qcoder.model.gpu_cache import GpuSequence
from qcoder.model.gpu_model import STATE_SLOTS, GpuModel
from qcoder.model.gpu_weights import GpuWeights

REPEATS = 20
TARGETS = [
    Target("30b int4 batch 1 at 1024: tokens/s", ">=", 900),
    Target("30b fp8 batch 1 at 1024: tokens/s", ">=", 600),
    Target("30b float batch 1 at 1024: tokens/s", ">=", 400),
    Target("next fp8 batch 1 at 1024: tokens/s", ">=", 400),
    Target("attention of one token at 131072: share of copy bandwidth", ">=", 0.85),
    Target("experts of one token, int4: share of copy bandwidth", ">=", 0.58),
    Target("30b float prefill of 8192: share of matrix peak", ">=", 0.40),
    Target("sparse prefill at 262144: times dense", ">=", 5),
    Target("sparse prefill: points of retrieval lost", "<=", 1),
]


def kernels(run: Run) -> None:
    """Kernels of a decode step over many layers' weights, so that none stay in the cache."""
    shape = run.shape("30b")
    count = 2 if run.rehearsal else 24
    for kind in KINDS:
        gate_up = [
            random_matrix(kind, run.device, shape.experts, 2 * shape.expert_size, shape.hidden)
            for _ in range(count)
        ]
        down = [
            random_matrix(kind, run.device, shape.experts, shape.hidden, shape.expert_size)
            for _ in range(count)
        ]
        routed = random_routed(run, 1, shape, shape.experts)

        def pair(
            first: list[GpuMatrix] = gate_up, second: list[GpuMatrix] = down, r: Routed = routed
        ) -> None:
            for a, b in zip(first, second, strict=True):
                experts_outer(experts_inner(r, a), r, b)

        took = seconds(pair, REPEATS)
        used = shape.top_k / shape.experts * sum(m.size_bytes for m in (*gate_up, *down))
        share(run, f"experts of one token, {kind}", used, took)
        del gate_up, down
        free()
    attention_alone(run, shape)


def attention_alone(run: Run, shape: Shape) -> None:
    """One token over long contexts."""
    heads = Heads(shape.heads, shape.kv_heads, shape.head_dim, 1e-6)
    for context in (32_768, 131_072):
        length = run.tokens(context)
        count = -(-length // PAGE) + 1
        pages = layer_pages(count, shape.kv_heads, shape.head_dim, DOT_TORCH, run.device)
        turns = rotation(shape.rotary_dim, 1e7, None, length + PAGE, run.device)
        numbers = torch.randperm(count).int().unsqueeze(0).to(run.device)
        at = torch.tensor([length], dtype=torch.int32, device=run.device)
        places = Places(at, torch.zeros_like(at), numbers)
        qkv = torch.randn(1, heads.width, device=run.device)
        scratch = decode_scratch(1, heads, run.device)
        took = seconds(
            lambda h=heads, p=places, r=turns, g=pages, s=scratch, x=qkv: attention_decode(x, h, p, r, g, s),
            REPEATS,
        )  # fmt: skip
        used = 2 * length * shape.kv_heads * shape.head_dim * pages.keys.itemsize
        share(run, f"attention of one token at {context}", used, took)


def decode(run: Run) -> None:
    """Whole steps: tokens a second, and the weights and keys read against a copy."""
    plan = [
        ("30b", "int4"),
        ("30b", "fp8"),
        ("30b", "int8"),
        ("30b", "float"),
        ("next", "fp8"),
        ("next", "int4"),
    ]
    for name, kind in plan[3:] if run.rehearsal else plan:
        shape = run.shape(name)
        weights = checkpoint(shape, kind, run.device)
        longest = run.tokens(131_072)
        pages = 17 * -(-longest // PAGE) // (4 if name == "30b" else 1) + 64
        network = model(shape, weights, longest + PAGE, pages, torch.bfloat16)
        for batch, context in (
            (1, 1024),
            (4, 1024),
            (16, 1024),
            (1, 32_768),
            (4, 32_768),
            (1, 131_072),
        ):
            if run.rehearsal and (batch > 4 or context > 1024):
                continue
            if network.pool.states and batch > STATE_SLOTS:
                continue
            took = step_seconds(network, batch, run.tokens(context))
            label = f"{name} {kind} batch {batch} at {context}"
            run.add(f"{label}: tokens/s", batch / took)
            used = step_bytes(shape, weights, batch, run.tokens(context))
            run.add(f"{label}: share of copy bandwidth", used / took / run.bandwidth)
        del network, weights
        free()


def step_seconds(network: GpuModel, batch: int, context: int) -> float:
    """One new token for each of `batch` sequences of `context` tokens."""
    sequences = [filled(network, context) for _ in range(batch)]
    for sequence in sequences:
        sequence.reserve(context + 1)
    inputs = network.inputs([Pass([1], sequence, 1) for sequence in sequences])
    return seconds(lambda: network.few_logits(inputs), REPEATS)


def filled(network: GpuModel, context: int) -> GpuSequence:
    """A sequence that says that it has `context` tokens; its pages hold what lies there."""
    sequence = network.new_sequence()
    sequence.reserve(context)
    sequence.extend([0] * context)
    return sequence


def step_bytes(shape: Shape, weights: GpuWeights, batch: int, context: int) -> float:
    """Read by a step: all but the embedding and the experts that no token chose, keys and values."""
    layer = weights.layers[0]
    experts = shape.layers * (layer.gate_up.size_bytes + layer.down.size_bytes)
    dense = weights.size_bytes - weights.embedding.nbytes - experts
    count = layer.gate_up.data.shape[0]
    chosen = count * (1 - (1 - shape.top_k / shape.experts) ** batch) + shape.shared
    cache = 2 * shape.attention_layers * shape.kv_heads * shape.head_dim * 2 * context * batch
    return dense + experts * min(chosen / count, 1.0) + cache


def prefill(run: Run) -> None:
    """Prompts in passes of 8,192 tokens, as the engine takes them."""
    for name, kind, lengths in (
        ("30b", "float", (8192, 65_536)), ("30b", "int4", (8192,)), ("30b", "fp8", (8192,)),
        ("next", "fp8", (8192, 65_536)),
    ):  # fmt: skip
        shape = run.shape(name)
        weights = checkpoint(shape, kind, run.device)
        for length in lengths:
            tokens = run.tokens(length)
            network = model(
                shape, weights, tokens + PAGE, 2 * -(-tokens // PAGE) + 2, torch.bfloat16
            )
            ids = torch.randint(0, shape.vocab, (tokens,)).tolist()

            def whole(n: GpuModel = network, i: list[int] = ids) -> None:
                n.forward(i, n.new_sequence())

            took = seconds(whole, 3 if length > 8192 else 5, graph=False)
            label = f"{name} {kind} prefill of {length}"
            run.add(f"{label}: tokens/s", tokens / took)
            work = prefill_operations(shape, tokens)
            run.add(f"{label}: share of matrix peak", work / took / run.peak)
            del network
            free()
        del weights
        free()


def prefill_operations(shape: Shape, tokens: int) -> float:
    """Multiplications and additions of the products and of causal attention."""
    mixer = shape.hidden * (shape.qkv + shape.heads * shape.head_dim)
    linear_mixer = 0
    if shape.linear is not None:
        s = shape.linear
        linear_mixer = shape.hidden * (s.channels + 2 * s.value_size)
    others = shape.layers - shape.attention_layers
    experts = 3 * shape.hidden * shape.expert_size * (shape.top_k + shape.shared)
    a_token = shape.attention_layers * mixer + others * linear_mixer + shape.layers * experts
    attention = shape.attention_layers * 2 * tokens * tokens * shape.heads * shape.head_dim
    return 2.0 * tokens * a_token + attention


def sparse(run: Run) -> None:
    """The last pass of a long prompt, sparse against our own dense one, among needles, and what it misses."""
    shape = run.shape("30b")
    total, tokens = (512, 64) if run.rehearsal else (262_144, 8192)
    hay = Haystack(total, tokens, shape.heads, shape.kv_heads, shape.head_dim, questions=16)
    if run.rehearsal:
        hay = replace(hay, needles=2, questions=2)
    found: dict[str, list[float]] = {"dense": [], "sparse": []}
    for seed in range(1 if run.rehearsal else 4):
        task = make_task(hay, seed, run.device)
        for name, attend in (("dense", attention_blocks), ("sparse", attention_sparse)):
            found[name].append(accuracy(task, attend, hay.run, DOT_TORCH))
    q, k, v = (x.to(DOT_TORCH) for x in (task.q, task.k, task.v))
    dense = seconds(lambda: attention_blocks(q, k, v), 3, graph=False)
    took = seconds(lambda: attention_sparse(q, k, v), 3, graph=False)
    run.add("sparse prefill at 262144: times dense", dense / took)
    lost = sum(found["dense"]) - sum(found["sparse"])
    run.add("sparse prefill: points of retrieval lost", 100 * lost / len(found["dense"]))


def peer(run: Run) -> None:
    """transformers on the same shape in bfloat16, a token at a time with a static cache."""
    if find_spec("transformers") is None:
        run.notes.append("no transformers on this machine: no peer")
        return
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    shape = fewer_layers(run.shape("30b"), 2 if run.rehearsal else 12)
    config = Qwen3MoeConfig(
        vocab_size=shape.vocab, hidden_size=shape.hidden, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim, num_experts=shape.experts, num_experts_per_tok=shape.top_k,
        moe_intermediate_size=shape.expert_size, norm_topk_prob=True, max_position_embeddings=4096,
    )  # fmt: skip
    with torch.device(run.device):
        network = Qwen3MoeForCausalLM(config).to(DOT_TORCH).eval()
    ids = torch.randint(0, shape.vocab, (1, run.tokens(1024)), device=run.device)
    out = network(ids, use_cache=True)
    cache = out.past_key_values
    token = ids[:, :1]
    took = seconds(lambda: network(token, past_key_values=cache, use_cache=True), 10, graph=False)
    own = model(shape, checkpoint(shape, "float", run.device), 2048, 64, torch.bfloat16)
    ours = step_seconds(own, 1, run.tokens(1024))
    run.add(f"{shape.layers} layers of 30b float, a token at 1024: times transformers", took / ours)
    prompt = seconds(lambda: network(ids, use_cache=True), 5, graph=False)
    list_of_ids = ids[0].tolist()
    own_prompt = seconds(lambda: own.forward(list_of_ids, own.new_sequence()), 5, graph=False)
    run.add(
        f"{shape.layers} layers of 30b float, 1024 tokens: times transformers", prompt / own_prompt
    )


STAGES: dict[str, Callable[[Run], None]] = {
    "parity": parity, "kernels": kernels, "decode": decode, "prefill": prefill, "sparse": sparse,
    "peer": peer,
}  # fmt: skip


@torch.inference_mode()
def main() -> int:
    """Run the stages; exit 1 when one failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--rehearse", action="store_true", help="tiny shapes on the CPU")
    parser.add_argument("--format", choices=["text", "json"], default="text")
    options = parser.parse_args()
    if not options.rehearse and not torch.cuda.is_available():
        parser.error("there is no GPU here; --rehearse runs tiny shapes on the CPU")
    device = "cpu" if options.rehearse else "cuda"
    run = Run(device, options.rehearse)
    torch.manual_seed(0)
    run.bandwidth, run.peak = copy_bandwidth(device), matrix_peak(device)
    run.add("copy: GB/s", run.bandwidth / 1e9)
    run.add("matrix peak: TFLOP/s", run.peak / 1e12)
    failed = run_stages(run, options.stages.split(","))
    run.notes.append(f"torch {torch.__version__}, Triton {triton.__version__}, {clocks()}")
    if options.rehearse:
        run.notes.append("a rehearsal with tiny shapes on the CPU: the figures mean nothing")
    targets = [t for t in TARGETS if t.figure in run.figures and not options.rehearse]
    if options.format == "json":
        print(json.dumps(report(run.figures, targets, notes=run.notes), indent=1))
    else:
        print("\n".join(run.notes))
    return 1 if failed else 0


def run_stages(run: Run, names: list[str]) -> list[str]:
    """Those that failed."""
    failed = []
    for name in names:
        began = time.perf_counter()
        try:
            STAGES[name](run)
        except Exception as error:  # a stage's boundary: the other figures are worth having
            failed.append(name)
            traceback.print_exc()
            run.notes.append(f"stage {name} failed: {type(error).__name__}: {error}")
        free()
        run.add(f"stage {name}: seconds", time.perf_counter() - began)
    return failed


if __name__ == "__main__":
    sys.exit(main())
