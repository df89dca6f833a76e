"""What a training run leaves in its folder, and how it goes on from there.

    checkpoint.pt   weights, float32 masters, moments, averaged masters, progress
    stable.pt       the same, just before the learning rate falls: where further training begins
    log.jsonl       one row every ten steps

Files are written under a temporary name and renamed, so that a crash leaves the one before.
"""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qcoder.training.muon import Muon
from qcoder.training.network import Network, NetworkConfig
from qcoder.training.weights import load_network

CHECKPOINT, STABLE, LOG = "checkpoint.pt", "stable.pt", "log.jsonl"
MATRICES = ("qkv", "out", "gate_up", "down")
"""Last parts of the names of the parameters that are matrices of a layer."""


def split_names(names: list[str]) -> tuple[list[str], list[str]]:
    """Names of the layers' matrices and of everything else, each in the given order."""
    matrices = [n for n in names if n.endswith(MATRICES)]
    return matrices, [n for n in names if not n.endswith(MATRICES)]


def make_optimizer(network: Network) -> Muon:
    """Muon for the layers' matrices, AdamW for embedding, router and norms."""
    named = dict(network.named_parameters())
    matrices, others = split_names(list(named))
    return Muon([named[n] for n in matrices], [named[n] for n in others])


def new_progress() -> dict[str, float]:
    """Nothing done yet; `seconds` belong to the schedule, `tokens` to the weights."""
    return {"seconds": 0.0, "tokens": 0, "steps": 0}


def save(
    path: Path,
    network: Network,
    optimizer: Muon,
    average: list[Tensor],
    progress: dict[str, float],
) -> None:
    """Write a checkpoint."""
    state = {
        "config": asdict(network.config),
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average,
        "progress": progress,
    }
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def read(path: Path) -> dict[str, Any]:
    """A checkpoint's contents; `SystemExit` with what to do when the file cannot be read."""
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        return state
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise SystemExit(
            f"{path} is not a readable checkpoint ({error}); move it away to begin anew, "
            f"or begin from other weights with --init"
        ) from error


def masters_by_name(state: dict[str, Any], average: bool = False) -> dict[str, Tensor]:
    """Float32 weights of a checkpoint by parameter name: the latest, or their running average."""
    names = [n for n in state["network"] if "router_bias" not in n]
    matrices, others = split_names(names)
    tensors = state.get("average") if average else None
    return dict(zip(matrices + others, tensors or state["optimizer"]["masters"], strict=True))


def tokens_seen(folder: Path) -> int:
    """Tokens that an exported folder was trained on, by its MANIFEST.json; 0 when it does not say."""
    try:
        return int(json.loads((folder / "MANIFEST.json").read_text())["training"]["tokens_seen"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def starting_network(init: Path | None, config: NetworkConfig, max_length: int) -> Network:
    """A new network, or one with the weights of an exported folder."""
    if init is None or init.is_file():
        return Network(config, max_length)
    return load_network(init, max_length)
