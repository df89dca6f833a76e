"""Writes a training checkpoint as the folder that the engine loads and the wheel ships.

    python -m qcoder.training.export --run DIR --corpus DIR --tokenizer FILE --output model/weights/qcoder_nano

Matrices become int8 rows with a float16 scale (`X.weight`, `X.weight_scale`), norms and router stay
in floating point, names are the hub's (one tensor an expert), so any reader of
`Qwen3MoeForCausalLM` finds its way. MANIFEST.json holds checksums, training facts and the source
packages; ATTRIBUTION.md names every package with its licence.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from qcoder.model.quant import quantize_int8
from qcoder.training import checkpoints
from qcoder.training.items import LANGUAGE_SHARE, PLAIN_SHARE, PSM_SHARE

MAX_CONTEXT = 1024
FINISHED = 0.98  # share of the schedule from which the last weights are the best


def hub_tensors(weights: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
    """Our stacked parameters under the names of `Qwen3MoeForCausalLM`."""
    q_size = config["num_attention_heads"] * config["head_dim"]
    kv_size = config["num_key_value_heads"] * config["head_dim"]
    width = config["moe_intermediate_size"]
    out = {"model.embed_tokens.weight": weights["embedding"], "model.norm.weight": weights["norm"]}
    for i in range(config["num_hidden_layers"]):
        ours, hub = f"layers.{i}.", f"model.layers.{i}."
        out[hub + "input_layernorm.weight"] = weights[ours + "input_norm"]
        out[hub + "post_attention_layernorm.weight"] = weights[ours + "post_norm"]
        out[hub + "self_attn.q_norm.weight"] = weights[ours + "q_norm"]
        out[hub + "self_attn.k_norm.weight"] = weights[ours + "k_norm"]
        parts = torch.split(weights[ours + "qkv"], [q_size, kv_size, kv_size])
        for name, part in zip("qkv", parts, strict=True):
            out[f"{hub}self_attn.{name}_proj.weight"] = part
        out[hub + "self_attn.o_proj.weight"] = weights[ours + "out"]
        out[hub + "mlp.gate.weight"] = weights[ours + "router"]
        for e in range(config["num_experts"]):
            expert = f"{hub}mlp.experts.{e}."
            out[expert + "gate_proj.weight"] = weights[ours + "gate_up"][e, :width]
            out[expert + "up_proj.weight"] = weights[ours + "gate_up"][e, width:]
            out[expert + "down_proj.weight"] = weights[ours + "down"][e]
    return {k: v.contiguous() for k, v in out.items()}


def quantized(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Int8 rows for every matrix except the router; the rest in float32."""
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.dim() == 2 and not name.endswith("mlp.gate.weight"):
            out[name], out[name + "_scale"] = quantize_int8(tensor)
        else:
            out[name] = tensor.float()
    return out


def hub_config(config: dict[str, Any]) -> dict[str, Any]:
    """`config.json` in the hub's style."""
    return {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        **config,
        "attention_bias": False,
        "bos_token_id": None,
        "decoder_sparse_step": 1,
        "eos_token_id": 0,
        "hidden_act": "silu",
        "intermediate_size": config["moe_intermediate_size"],
        "max_position_embeddings": MAX_CONTEXT,
        "mlp_only_layers": [],
        "norm_topk_prob": True,
        "rope_scaling": None,
        "router_aux_loss_coef": 0.01,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "quantization_config": {"quant_method": "qcoder-int8"},
    }


def sha256(path: Path) -> str:
    """Checksum of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def attribution(packages: list[dict[str, Any]]) -> str:
    """ATTRIBUTION.md: one table row a package."""
    rows = [
        f"| {p['name']} | {p['version']} | {p['licence'].replace('|', '/')} | {p['files']} "
        f"| {p['bytes']} | `{p['digest'][:16]}` |"
        for p in sorted(packages, key=lambda p: p["name"].lower())
    ]
    return "\n".join(
        [
            "# Attribution",
            "",
            "The weights in this folder were trained on source code of these packages, installed by",
            "name under permissive licences. No text of theirs is shipped. `sha256` is of the",
            "filtered text that was available to the training (first 16 digits).",
            "",
            "| package | version | licence | files | bytes | sha256 |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def export(args: argparse.Namespace) -> None:
    """Write the folder; MANIFEST.json comes last because it holds the checksums."""
    state = checkpoints.read(args.run / checkpoints.CHECKPOINT)
    # Before the learning rate has come down, the running average is the better model.
    average = state["progress"].get("share", 1.0) < FINISHED
    output: Path = args.output
    output.mkdir(parents=True, exist_ok=True)
    tensors = quantized(hub_tensors(checkpoints.masters_by_name(state, average), state["config"]))
    save_file(tensors, output / "model.safetensors", metadata={"format": "pt"})
    (output / "model.safetensors").chmod(0o644)
    (output / "config.json").write_text(json.dumps(hub_config(state["config"]), indent=1) + "\n")
    generation = {"eos_token_id": [0], "do_sample": False}
    (output / "generation_config.json").write_text(json.dumps(generation, indent=1) + "\n")
    shutil.copyfile(args.tokenizer, output / "tokenizer.json")
    packages = json.loads((args.corpus / "attribution.json").read_text())
    (output / "ATTRIBUTION.md").write_text(attribution(packages))
    log = [json.loads(line) for line in (args.run / checkpoints.LOG).read_text().splitlines()]
    write_manifest(output, state["progress"], log, average)


def refresh_manifest(output: Path, facts: dict[str, Any]) -> None:
    """Add facts to MANIFEST.json and take the checksums of all files again."""
    path = output / "MANIFEST.json"
    manifest = {**json.loads(path.read_text()), **facts, "files": checksums(output)}
    path.write_text(json.dumps(manifest, indent=1) + "\n")


def checksums(output: Path) -> dict[str, dict[str, Any]]:
    """Checksum and size of every file but the manifest."""
    return {
        p.name: {"sha256": sha256(p), "bytes": p.stat().st_size}
        for p in sorted(output.iterdir())
        if p.name != "MANIFEST.json"
    }


def write_manifest(
    output: Path, progress: dict[str, Any], log: list[dict[str, Any]], average: bool
) -> None:
    """MANIFEST.json: what this is, how it was trained, checksums of every other file."""
    manifest = {
        "name": "qcoder-nano",
        "version": "0.1.0",
        "fim_order": "spm",
        "max_context": MAX_CONTEXT,
        "training": {
            "tokens_seen": int(progress["tokens"]),
            "steps": int(progress["steps"]),
            "wall_seconds": round(progress["seconds"]),
            "device": f"CPU, {platform.machine()}, 2 threads",
            "torch": torch.__version__,
            "weights": "running average" if average else "last",
            "final_loss_nats": log[-1]["loss"],
            "expert_load_cv": log[-1]["load_cv"],
            "language_share": LANGUAGE_SHARE,
            "plain_share": PLAIN_SHARE,
            "psm_share": PSM_SHARE,
        },
        "files": checksums(output),
    }
    (output / "MANIFEST.json").write_text(json.dumps(manifest, indent=1) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    export(parser.parse_args())


if __name__ == "__main__":
    main()
