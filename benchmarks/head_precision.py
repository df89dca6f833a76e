"""What the ways to hold the output matrix cost: bytes a token, and how far the logits are off.

    python -P benchmarks/head_precision.py --format json [--root DIR]

The default model reads the files of a folder (our own sources by default, which it was not trained on);
its last hidden states are multiplied with its output matrix as floats and as each way holds it, in the
compiled kernels. Figures: Kullback-Leibler divergence in nats a token, the share of tokens whose
likeliest successor is the same, and bytes read a token as a share of int8's, for a vocabulary of
151,936 as Qwen's models have. The default model's is 8,192, of which two planes refine as large a
share.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["QCODER_KERNELS"] = "torch"  # hidden states of the plain decoder

import torch
from torch import Tensor

from qcoder.kernels.native_library import Native
from qcoder.kernels.rms_norm import rms_norm
from qcoder.kernels.tiled import REFINED_SHARE, TiledShape, quantize, tile, untile
from qcoder.lsp_server.demo import python_sources
from qcoder.model.bench_report import Target, report
from qcoder.model.decoder import Decoder
from qcoder.model.importer import ROUND
from qcoder.model.local import LocalEngine
from qcoder.model.quant import quantize_int4

TOKENS = 512
"""Of a file."""

TARGETS = (
    Target("int4x2_nats", "<=", 0.005),
    Target("int4x2_agreement", ">=", 0.985),
)


def hidden_states(engine: LocalEngine, root: Path, files: int) -> Tensor:
    """What the output matrix is multiplied with, [tokens, hidden]."""
    model = engine._model
    assert isinstance(model, Decoder)
    paths = list(python_sources(root.resolve()))
    step = max(1, len(paths) // files)
    found = []
    for path in paths[::step][:files]:
        ids = engine.tokenizer.encode(path.read_text(encoding="utf-8", errors="replace"))[:TOKENS]
        if len(ids) > TOKENS // 4:
            x = model.hidden(list(ids), model.new_sequence())
            found.append(rms_norm(x, model.norm, model.config.rms_norm_eps).float())
    return torch.cat(found)


def tiled(matrix: Tensor, bits: int, group: int) -> tuple[Tensor, TiledShape]:
    """Rounded as an import does."""
    return tiles(*(quantize_int4(matrix, group) if bits == 4 else quantize(matrix, 8, group)), bits)


def tiles(values: Tensor, scales: Tensor, bits: int) -> tuple[Tensor, TiledShape]:
    """Values [rows, columns] and scales as the kernels read them."""
    shape = TiledShape(*values.shape, bits, values.shape[1] // scales.shape[1])
    return tile(values, scales, shape), shape


def heads(matrix: Tensor) -> dict[str, tuple[Tensor, TiledShape, Tensor | None]]:
    """Name of a way -> tiles, their shape, and the second plane."""
    first, shape = tiles(*ROUND["int4x2"](matrix, 128), 4)
    second, _ = tiled(matrix - untile(first, shape), 4, 128)
    ways: dict[str, tuple[Tensor, TiledShape, Tensor | None]] = {"int4x2": (first, shape, second)}
    for name, bits, group in (("int8", 8, 128), ("int4", 4, 128), ("int4_groups_of_32", 4, 32)):
        ways[name] = (*tiled(matrix, bits, group), None)
    return ways


def measure(root: Path, files: int) -> dict[str, Any]:
    """All figures."""
    engine = LocalEngine.load("default", max_context=2 * TOKENS)
    with torch.inference_mode():
        x = hidden_states(engine, root, files)
        matrix = engine._model.head.weight.float()  # type: ignore[union-attr]
        figures: dict[str, Any] = {"tokens": len(x)}
        native = Native(1)
        eight = TiledShape(*matrix.shape, 8, 128).size_bytes
        for name, (data, shape, residual) in heads(matrix).items():
            nats, same = 0.0, 0
            for part in torch.split(x, 256):
                meant = (part @ matrix.T).log_softmax(-1)
                found = native.linear(part, data, shape, residual).log_softmax(-1)
                nats += float((meant.exp() * (meant - found)).sum())
                same += int((meant.argmax(-1) == found.argmax(-1)).sum())
            read = data.nbytes * (1 + (1 / REFINED_SHARE if residual is not None else 0))
            figures[f"{name}_nats"] = round(nats / len(x), 5)
            figures[f"{name}_agreement"] = round(same / len(x), 4)
            figures[f"{name}_bytes_over_int8"] = round(read / eight, 3)
    return figures


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    options = parser.parse_args(arguments)
    figures = measure(options.root, options.files)
    done = report(figures, TARGETS)
    if options.format == "json":
        print(json.dumps(done, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:32} {value:.4g}")
    return 0 if all(target["holds"] for target in done["targets"]) else 1


if __name__ == "__main__":
    sys.exit(main())
