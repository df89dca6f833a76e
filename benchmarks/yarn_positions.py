"""How exact positions are at a million tokens: angles of the rotary table, and logits.

    python -P benchmarks/yarn_positions.py --format json

The shape is that of Qwen3-Coder-30B-A3B with YaRN by 4 over 262,144 tokens (heads of 128, base 1e7).
The angle that cos and sin of a table stand for is compared, at every position and pair, with the
angle by the formulas of the YaRN paper (arXiv 2309.00071) in plain float64, written down here once
more. Logits are those of a tiny random model whose tokens stand at the beginning, the middle and
the end of the million positions, against transformers in float64 with such angles. What transformers
itself computes in float32 is measured beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qcoder.kernels.rotary import Yarn, frequencies, rotary_rows
from qcoder.model.bench_report import Target, report
from qcoder.model.checkpoint import Checkpoint
from qcoder.model.config import load_config
from qcoder.model.kv_cache import Sequence
from qcoder.model.registry import network_class

HEAD_DIM, THETA, ORIGINAL, FACTOR = 128, 1e7, 262_144, 4.0
BETA_FAST, BETA_SLOW = 32.0, 1.0
ROPE = {
    "rope_type": "yarn",
    "rope_theta": THETA,
    "factor": FACTOR,
    "original_max_position_embeddings": ORIGINAL,
}
LAST = int(FACTOR * ORIGINAL) - 1
BLOCK = 1 << 15
RUNS = ((0, 32), (ORIGINAL * 2 - 16, 32), (LAST - 31, 32))
"""Where the tokens of the tiny model stand: (first position, tokens)."""

TARGETS = (
    Target("last_angle_error_rad", "<=", 1e-6),
    Target("largest_angle_error_rad", "<=", 1e-6),
    Target("logits_error", "<=", 1e-4),
)


def exact_frequencies() -> list[float]:
    """Radians a position of each pair, by the paper's ramp between two numbers of rotations."""

    def pair(rotations: float) -> float:
        return HEAD_DIM * math.log(ORIGINAL / (rotations * 2 * math.pi)) / (2 * math.log(THETA))

    low, high = math.floor(pair(BETA_FAST)), math.ceil(pair(BETA_SLOW))
    out = []
    for i in range(HEAD_DIM // 2):
        plain = THETA ** (-2 * i / HEAD_DIM)
        slow = min(max((i - low) / (high - low), 0.0), 1.0)
        out.append(slow * plain / FACTOR + (1 - slow) * plain)
    return out


def angle_errors(cos: NDArray[Any], sin: NDArray[Any], first: int) -> NDArray[np.float64]:
    """Distance on the circle between what tables say and what is right: [positions, pairs]."""
    positions = np.arange(first, first + len(cos), dtype=np.float64)
    right = np.outer(positions, np.array(exact_frequencies()))
    found = np.arctan2(sin.astype(np.float64), cos.astype(np.float64))
    turned = np.mod(found - right + math.pi, 2 * math.pi) - math.pi
    return np.abs(turned)


def table_errors() -> dict[str, float]:
    """Largest error of our table, over all positions and at the last one."""
    yarn, half, largest = Yarn(FACTOR, ORIGINAL), HEAD_DIM // 2, 0.0
    frequency = frequencies(HEAD_DIM, THETA, yarn)
    for first in range(0, LAST + 1, BLOCK):
        cos, sin = rotary_rows(frequency, yarn.scale, first, first + BLOCK).numpy()
        errors = angle_errors(cos[:, :half], sin[:, half:], first)
        largest = max(largest, float(errors.max()))
        print(f"\r{first + BLOCK:>9,} positions", end="", file=sys.stderr)
    print(file=sys.stderr)
    return {"last_angle_error_rad": float(errors[-1].max()), "largest_angle_error_rad": largest}


class Placed:
    """A rotary table whose tokens stand at `RUNS`."""

    def __init__(self) -> None:
        yarn = Yarn(FACTOR, ORIGINAL)
        frequency = frequencies(HEAD_DIM, THETA, yarn)
        parts = [rotary_rows(frequency, yarn.scale, at, at + size) for at, size in RUNS]
        self._rows = torch.cat(parts, dim=1)

    def rows(self, start: int, end: int) -> Tensor:
        """Rows of tokens, not of positions."""
        return self._rows[:, start:end]


class ExactRotary(torch.nn.Module):
    """What a model of transformers asks for cos and sin, in float64."""

    def forward(self, x: Tensor, position_ids: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
        """cos and sin: [batch, tokens, head_dim]."""
        frequency = torch.tensor(exact_frequencies(), dtype=torch.float64)
        angles = position_ids[..., None].double() * frequency
        angles = torch.cat([angles, angles], dim=-1)
        scale = 0.1 * math.log(FACTOR) + 1
        return (angles.cos() * scale).to(x.dtype), (angles.sin() * scale).to(x.dtype)


def random_model(transformers: Any, folder: Path, seed: int) -> Any:
    """A checkpoint of two layers in `folder`, and the model that wrote it."""
    torch.manual_seed(seed)
    config = transformers.Qwen3MoeConfig(
        vocab_size=211,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=HEAD_DIM,
        num_experts=6,
        num_experts_per_tok=2,
        moe_intermediate_size=24,
        norm_topk_prob=True,
        max_position_embeddings=LAST + 1,
        rope_parameters=ROPE,
    )
    config._attn_implementation = config._experts_implementation = "eager"
    model = transformers.Qwen3MoeForCausalLM(config).float().eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(std=1 / math.sqrt(parameter.shape[-1]))
    model.save_pretrained(folder)
    return model


@torch.inference_mode()
def logits_errors(transformers: Any, seed: int) -> dict[str, float]:
    """Largest distance of logits from the float64 model, of ours and of transformers' float32."""
    positions = torch.cat([torch.arange(at, at + size) for at, size in RUNS])
    ids = torch.randint(0, 211, (len(positions),), generator=torch.Generator().manual_seed(seed))
    with tempfile.TemporaryDirectory() as name:
        oracle = random_model(transformers, Path(name), seed)
        peer = oracle(ids[None], position_ids=positions[None]).logits[0]
        config = load_config(Path(name))
        with Checkpoint.open(Path(name)) as checkpoint:
            load = network_class(config.model_type).load
            ours = load(checkpoint, config, torch.float32, max_context=len(ids))
    ours.rotary = Placed()
    found = ours.forward(ids.tolist(), Sequence(ours.cache_shape, len(ids)), all_logits=True)
    oracle.model.rotary_emb = ExactRotary()
    right = oracle.double()(ids[None], position_ids=positions[None]).logits[0]
    return {
        "logits_error": float((found - right).abs().max()),
        "transformers_float32_logits_error": float((peer - right).abs().max()),
        "logits_deviation": float(right.std()),
    }


def peer_angle_error(transformers: Any) -> float:
    """Largest error of transformers' own table at the last position."""
    config = transformers.Qwen3MoeConfig(
        head_dim=HEAD_DIM,
        max_position_embeddings=LAST + 1,
        rope_parameters=ROPE,
    )
    module = transformers.models.qwen3_moe.modeling_qwen3_moe.Qwen3MoeRotaryEmbedding(config)
    cos, sin = module(torch.zeros(1), torch.tensor([[LAST]]))
    half = HEAD_DIM // 2
    return float(angle_errors(cos[0, :, :half].numpy(), sin[0, :, :half].numpy(), LAST).max())


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        import transformers  # the oracle of the logits; only development installs have it
    except ImportError:
        print("the logits need transformers: pip install qcoder[dev]", file=sys.stderr)
        return 2
    figures = table_errors()
    figures |= {"transformers_float32_last_angle_error_rad": peer_angle_error(transformers)}
    figures |= logits_errors(transformers, options.seed)
    done = report(figures, TARGETS, options.seed)
    if options.format == "json":
        print(json.dumps(done, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:45} {value:.3g}")
    return 0 if all(target["holds"] for target in done["targets"]) else 1


if __name__ == "__main__":
    sys.exit(main())
