"""The first stage of the GPU benchmark: what the device computes is right."""

from __future__ import annotations

import torch

from gpu_shapes.checkpoints import Shape, checkpoint, fewer_layers, model, random_matrix
from gpu_shapes.run import KINDS, Run, free
from qcoder.kernels.gpu.configs import DOT_TORCH
from qcoder.kernels.gpu.experts import experts_inner, experts_outer, experts_reference
from qcoder.kernels.gpu.grouped import experts_many, for_matrix, many_linear
from qcoder.kernels.gpu.linear import linear, linear_reference
from qcoder.kernels.gpu.router import Routed


def parity(run: Run) -> None:
    """Every kind of weights against float32 products of the same values; raises where one is off."""
    shape = run.shape("30b")
    for kind in KINDS:
        for tokens in (1, 4):
            matrix = random_matrix(kind, run.device, shape.qkv, shape.hidden)
            x = torch.randn(tokens, shape.hidden, device=run.device)
            norm = torch.rand(shape.hidden, device=run.device) + 0.5
            wanted = linear_reference(x, matrix, norm, 1e-6)
            check(run, f"linear {kind} x{tokens}", linear(x, matrix, norm, 1e-6), wanted)
        rows = torch.randn(run.tokens(200), shape.hidden, device=run.device)
        got = many_linear(for_matrix(rows, matrix), matrix)
        check(run, f"many {kind}", got, rows @ matrix.floats().T)
        experts = min(shape.experts, 16)
        gate_up = random_matrix(kind, run.device, experts, 2 * shape.expert_size, shape.hidden)
        down = random_matrix(kind, run.device, experts, shape.hidden, shape.expert_size)
        routed = random_routed(run, 2, shape, experts)
        wanted = experts_reference(routed, gate_up, down)
        got = experts_outer(experts_inner(routed, gate_up), routed, down)
        check(run, f"experts {kind} x2", got, wanted)
        normed = (routed.gained * routed.factor.unsqueeze(1)).to(DOT_TORCH)
        got = experts_many(normed, gate_up, down, routed.chosen, routed.weights, routed.x)
        check(run, f"experts {kind} many", got, wanted)
    for name in ("30b", "next"):
        pieces_and_whole(run, name)


def check(run: Run, name: str, got: torch.Tensor, wanted: torch.Tensor) -> None:
    """Largest difference over the largest value; bfloat16 products lose a percent at most."""
    error = float((got.float() - wanted).abs().max() / wanted.abs().max())
    run.add(f"parity {name}: relative error", error)
    if not error <= 0.02:
        raise AssertionError(f"{name}: {error:.3g} off")


def random_routed(run: Run, tokens: int, shape: Shape, experts: int) -> Routed:
    """Tokens with random experts."""
    x = torch.randn(tokens, shape.hidden, device=run.device)
    chosen = torch.stack([torch.randperm(experts)[: shape.top_k] for _ in range(tokens)])
    weights = torch.full(chosen.shape, 1 / shape.top_k, device=run.device)
    factor = torch.rsqrt(x.square().mean(-1) + 1e-6)
    return Routed(x, x.clone(), factor, chosen.int().to(run.device), weights)


def pieces_and_whole(run: Run, name: str) -> None:
    """A prompt in one pass of many tokens, and in many and few: the same logits, nearly."""
    shape = fewer_layers(run.shape(name), 4 if name == "next" and not run.rehearsal else 2)
    network = model(shape, checkpoint(shape, "float", run.device), 512, 32, torch.bfloat16)
    ids = torch.randint(0, shape.vocab, (run.tokens(150),)).tolist()
    whole, pieces = network.new_sequence(), network.new_sequence()
    wanted = network.forward(ids, whole)
    network.forward(ids[:-5], pieces)
    for token in ids[-5:-1]:
        network.forward([token], pieces)
    got = network.forward(ids[-1:], pieces)
    check(run, f"{name} few after many", got, wanted.float())
    del network, whole, pieces
    free()
