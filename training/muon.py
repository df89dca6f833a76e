"""Muon with AdamW beside it, over bfloat16 weights with float32 masters.

Muon (Jordan et al. 2024; scale of Moonlight, arXiv 2502.16982) replaces the gradient of a matrix by
its orthogonal factor, found with Newton-Schulz steps. Matrices of equal shape are batched, stacked
experts count as many matrices. Everything that is not a matrix of a layer goes to AdamW.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

# Coefficients of the quintic iteration a*X + b*(XX^T)X + c*(XX^T)^2 X.
A, B, C = 3.4445, -4.7750, 2.0315


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """Approximate orthogonal factors of matrices [n, rows, columns], computed in bfloat16."""
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.float().norm(dim=(-2, -1), keepdim=True) + 1e-7).bfloat16()
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
    return x.mT if tall else x


class Muon:
    """One optimizer for the whole network; `step(lr_scale)` reads gradients and clears them.

    `matrices` and `others` are lists of parameters in any float dtype; the float32 masters and the
    moments live here.
    """

    def __init__(
        self,
        matrices: list[Tensor],
        others: list[Tensor],
        matrix_lr: float = 0.02,
        other_lr: float = 2e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        self.matrices, self.others = matrices, others
        self.matrix_lr, self.other_lr = matrix_lr, other_lr
        self.momentum, self.weight_decay = momentum, weight_decay
        self.masters = [p.detach().float().clone() for p in matrices + others]
        self.first = [torch.zeros_like(m) for m in self.masters]
        self.second = [torch.zeros_like(m) for m in self.masters[len(matrices) :]]
        self.steps = 0

    @torch.no_grad()
    def step(self, lr_scale: float, clip: float = 1.0) -> float:
        """Apply one update; returns the gradient norm before clipping."""
        self.steps += 1
        parameters = self.matrices + self.others
        grads = [p.grad.float() if p.grad is not None else None for p in parameters]
        norm: float = torch.stack([g.norm() for g in grads if g is not None]).norm().item()
        factor = min(1.0, clip / (norm + 1e-6))
        groups: dict[tuple[int, int], list[tuple[int, Tensor]]] = defaultdict(list)
        count = len(self.matrices)
        for i, grad in enumerate(grads[:count]):
            if grad is None:
                continue
            moment = self.first[i].mul_(self.momentum).add_(grad, alpha=factor)
            update = grad.mul(factor).add_(moment, alpha=self.momentum)
            stacked = update.view(-1, *update.shape[-2:])
            groups[stacked.shape[-2], stacked.shape[-1]].append((i, stacked))
        for (rows, columns), members in groups.items():
            merged = orthogonalize(torch.cat([m for _, m in members]))
            scale = 0.2 * max(rows, columns) ** 0.5 * self.matrix_lr * lr_scale
            for (i, _), part in zip(
                members, torch.split(merged, [m.shape[0] for _, m in members]), strict=True
            ):
                master = self.masters[i]
                master.mul_(1 - self.matrix_lr * lr_scale * self.weight_decay)
                master.add_(part.reshape(master.shape).float(), alpha=-scale)
        for j, grad in enumerate(grads[count:]):
            if grad is not None:
                self._adam(j, count + j, grad.mul_(factor), lr_scale)
        for p in parameters:
            p.grad = None
        self.publish()
        return norm

    @torch.no_grad()
    def publish(self) -> None:
        """Write the masters to the parameters."""
        for p, master in zip(self.matrices + self.others, self.masters, strict=True):
            p.copy_(master)

    def _adam(self, j: int, i: int, grad: Tensor, lr_scale: float) -> None:
        first = self.first[i].lerp_(grad, 0.1)
        second = self.second[j].lerp_(grad.square(), 0.05)
        first_hat = first / (1 - 0.9**self.steps)
        second_hat = (second / (1 - 0.95**self.steps)).sqrt_().add_(1e-8)
        self.masters[i].addcdiv_(first_hat, second_hat, value=-self.other_lr * lr_scale)

    def state_dict(self) -> dict[str, Any]:
        """Masters, moments and the step count."""
        return {
            "masters": self.masters,
            "first": self.first,
            "second": self.second,
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave, and write the masters back to the parameters."""
        for mine, saved in zip(
            self.masters + self.first + self.second,
            state["masters"] + state["first"] + state["second"],
            strict=True,
        ):
            mine.copy_(saved)
        self.steps = state["steps"]
        self.publish()
