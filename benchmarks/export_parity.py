"""The default model, exported, in transformers and llama.cpp: the same greedy tokens as in our engine?

    python -P benchmarks/export_parity.py [--model NAME] [--format json]

transformers reads the exported folder and the exported GGUF file by code of its own, llama.cpp (package
xllamacpp, which brings it compiled) the GGUF file, with a float32 cache. Each prompt is
continued by 64 tokens, the most likely one each time. Where two continuations differ, the margin is how
much more likely (in nats) our engine held its token than the other: below 1e-3 it is rounding.

What is compared is what was exported, so our engine computes with PyTorch here: the compiled kernels
round activations to int8 besides, which now and then decides between two tokens that are nearly as likely.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from qcoder.model.bench_report import Target, report
from qcoder.model.exporter import export_gguf, export_hub
from qcoder.model.local import LocalEngine
from qcoder.model.registry import find_model
from qcoder.model.request import GenerationRequest, Prompt, SamplingParams

os.environ["QCODER_KERNELS"] = "torch"

TOKENS = 64
ROUNDING_NATS = 1e-3
PROMPTS = (
    "def read_lines(path):\n    ", "import json\n\n\nclass Settings:\n    def __init__(self",
    "for index, value in enumerate(", "    if not isinstance(value, ", "try:\n    result = ",
    "const express = require('", "function debounce(callback, delay) {\n  ", "export default class ",
    "package main\n\nimport (\n\t\"fmt\"\n", "func (s *Server) Handle(w http.ResponseWriter, ",
    "#include <stdio.h>\n\nint main(", "static int compare(const void *a, const void *b)\n{\n",
    "impl Iterator for Counter {\n    type Item = ", "pub fn parse(input: &str) -> Result<",
    "public class Main {\n    public static void ", "SELECT name, COUNT(*) FROM ",
    "# Installation\n\nRun ", "<div class=\"container\">\n  <", "with open(name, 'rb') as file:\n    ",
    "@dataclass(frozen=True)\nclass Point:\n    ",
)  # fmt: skip


Continue = Callable[[list[int], int], list[int]]
"""(prompt, count) -> that many tokens."""


def ours(engine: LocalEngine, ids: list[int]) -> list[int]:
    """Greedy tokens of the engine, without the copy model."""
    sampling = SamplingParams(temperature=0.0)
    request = GenerationRequest(
        Prompt(tuple(ids)), sampling=sampling, max_tokens=TOKENS, mixture=False
    )
    return [token.id for token in engine.generate(request) if token.id >= 0]


def in_transformers(folder: Path, **arguments: Any) -> Continue:
    """Greedy tokens of transformers, whatever they are."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, **arguments
    )

    def run(ids: list[int], count: int) -> list[int]:
        with torch.no_grad():
            out = model.generate(
                torch.tensor([ids]), max_new_tokens=count, min_new_tokens=count, do_sample=False
            )
        return [int(token) for token in out[0, len(ids) :]]

    return run


def in_llama_cpp(path: Path) -> Continue:
    """Greedy tokens of llama.cpp on one thread; raises ImportError where it is not installed."""
    import xllamacpp

    wanted = xllamacpp.CommonParams()
    wanted.model.path = str(path)
    wanted.n_ctx, wanted.n_parallel, wanted.n_gpu_layers = 1024, 1, 0
    wanted.cpuparams.n_threads = wanted.cpuparams_batch.n_threads = 1
    wanted.cache_type_k = wanted.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    server = xllamacpp.Server(wanted)

    def run(ids: list[int], count: int) -> list[int]:
        request = {"prompt": ids, "n_predict": count, "temperature": 0.0, "ignore_eos": True}
        answer = server.handle_completions({**request, "n_probs": 1, "cache_prompt": False})
        return [step["id"] for step in answer["choices"][0]["logprobs"]["content"]]

    return run


def margin(engine: LocalEngine, ids: list[int], mine: int, other: int) -> float:
    """How much more likely our token is than the other, in nats."""
    logits = engine.logits(ids)[-1]
    return float(logits[mine] - logits[other])


def compare(
    engine: LocalEngine, theirs: Continue, prompts: list[list[int]]
) -> tuple[int, int, float]:
    """Prompts whose tokens are all equal, tokens compared, and the largest margin of a difference."""
    equal, compared, largest = 0, 0, 0.0
    for ids in prompts:
        mine = ours(engine, ids)
        other = theirs(ids, len(mine)) if mine else []
        compared += len(mine)
        at = next(
            (i for i, pair in enumerate(zip(mine, other, strict=False)) if pair[0] != pair[1]), None
        )
        if at is None:
            equal += 1
            continue
        largest = max(largest, margin(engine, ids + mine[:at], mine[at], other[at]))
    return equal, compared, largest


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    args = parser.parse_args()
    os.environ.setdefault("TQDM_DISABLE", "1")
    source = find_model(args.model)
    engine = LocalEngine.load(str(source))
    prompts = [engine.tokenizer.encode(text) for text in PROMPTS]
    notes = []
    figures: dict[str, float] = {"prompts": len(prompts)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        export_hub(source, folder / "hub")
        (folder / "gguf").mkdir()
        export_gguf(source, folder / "gguf" / "model.gguf")
        config = transformers.AutoConfig.from_pretrained(folder / "hub")
        others = {
            "folder": in_transformers(folder / "hub"),
            "gguf": in_transformers(folder / "gguf", gguf_file="model.gguf", config=config),
        }
        try:
            others["llama_cpp"] = in_llama_cpp(folder / "gguf" / "model.gguf")
        except ImportError:
            notes.append("llama.cpp is not compared: xllamacpp is not installed")
        for name, theirs in others.items():
            print(f"comparing {name}", file=sys.stderr)
            equal, compared, largest = compare(engine, theirs, prompts)
            figures[f"{name}_equal_prompts"] = equal
            figures[f"{name}_tokens"] = compared
            figures[f"{name}_largest_margin_nats"] = round(largest, 6)
    targets = [Target(f"{name}_largest_margin_nats", "<=", ROUNDING_NATS) for name in others]
    result = report(figures, targets, notes=notes)
    if args.format == "json":
        print(json.dumps(result, indent=1))
        return
    for figure, value in figures.items():
        print(f"{figure:32} {value}")


if __name__ == "__main__":
    main()
