"""A synthetic retrieval task at the level of attention: does a question find its answer?

Queries and keys look like those of a trained head: content that changes slowly along the text, noise
of its own in every token, a first token on which attention rests, and rotation by position (theta 1e7)
that makes near tokens more alike than far ones. Needles are short runs of keys with a code in the slowly
rotating dimensions, whose values carry one of 64 answers; many other runs carry other codes. Questions
are runs of queries with the code of one needle. `aligned` needles are copies token by token (each token
of the question looks for its own token of the needle), the others share one code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

THETA, ANSWERS, LOG2E = 1e7, 64, 1.4426950408889634
SINK = 0.85
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Haystack:
    """How hard the task is."""

    total: int
    tokens: int = 512
    heads: int = 4
    kv_heads: int = 1
    head_dim: int = 128
    needles: int = 64
    questions: int = 8
    run: int = 8
    strength: float = 15.0
    """How far the score of a needle stands above those of other keys, in nats, beside ln(total)."""
    aligned: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """q is scaled to scores in base 2 and rotated, k rotated; answers [heads, questions]."""

    q: Tensor
    k: Tensor
    v: Tensor
    asked_at: Tensor  # [heads, questions]: first query of each question
    answers: Tensor
    codes: Tensor  # [ANSWERS, head_dim]


def _turned(x: Tensor, positions: Tensor) -> Tensor:
    """x [..., tokens, head_dim] rotated to the positions."""
    half = x.shape[-1] // 2
    frequency = THETA ** (-torch.arange(half, device=x.device, dtype=torch.float64) / half)
    angle = positions.double().unsqueeze(1) * frequency
    cos, sin = angle.cos().float(), angle.sin().float()
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def _text(shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Content of unit variance: a third changes every 32 tokens, the rest is each token's own."""
    heads, tokens, dim = shape
    device = generator.device
    slow = torch.randn(heads, tokens // 32 + 2, dim, generator=generator, device=device)
    slow = slow.repeat_interleave(32, 1)[:, :tokens]
    own = torch.randn(heads, tokens, dim, generator=generator, device=device)
    return slow * 0.58 + own * 0.81


def _codes(count: int, hay: Haystack, generator: torch.Generator) -> Tensor:
    """Unit vectors [count, head_dim] in the quarter of the dimensions that hardly rotate."""
    half, slow = hay.head_dim // 2, hay.head_dim // 8
    codes = torch.zeros(count, hay.head_dim, device=generator.device)
    parts = torch.randn(2, count, slow, generator=generator, device=generator.device)
    codes[:, half - slow : half], codes[:, -slow:] = parts[0], parts[1]
    return codes / codes.norm(dim=-1, keepdim=True)


def make_task(hay: Haystack, seed: int, device: torch.device | str = "cpu") -> Task:
    """A task from a seed; questions are for needles anywhere before the new tokens."""
    generator = torch.Generator(device=device).manual_seed(seed)
    h, dim, before = hay, hay.head_dim, hay.total - hay.tokens
    q = _text((h.heads, h.tokens, dim), generator)
    k = _text((h.kv_heads, h.total, dim), generator)
    v = torch.randn(h.kv_heads, h.total, dim, generator=generator, device=device)
    answer_codes = torch.randn(ANSWERS, dim, generator=generator, device=device)
    # What all tokens have in common makes near ones more alike than far ones, by rotation.
    common = torch.randn(dim, generator=generator, device=device)
    common *= (3.0 * dim**0.5) ** 0.5 / common.norm()
    q, k = q + common, k + common
    codes = _codes(h.needles * h.run, h, generator).view(h.needles, h.run, dim)
    if not h.aligned:
        codes = codes[:, :1].expand(-1, h.run, -1)
    high = ((torch.log(torch.tensor(float(h.total))) + h.strength) * dim**0.5) ** 0.5
    where = torch.randperm(before // h.run - 2, generator=generator, device=device)[: h.needles]
    starts = (where + 1) * h.run + torch.randint(
        0, h.run, (h.needles,), generator=generator, device=device
    )
    said = torch.randint(0, ANSWERS, (h.needles,), generator=generator, device=device)
    run = torch.arange(h.run, device=device)
    at = (starts.unsqueeze(1) + run).flatten()
    k[:, at] += (codes * high).reshape(-1, dim)
    v[:, at] += answer_codes[said].repeat_interleave(h.run, 0)
    every = h.tokens // h.questions
    asked = torch.arange(h.questions, device=device) * every + torch.randint(
        0, every - h.run, (h.heads, h.questions), generator=generator, device=device
    )
    which = torch.randint(0, h.needles, (h.heads, h.questions), generator=generator, device=device)
    for head in range(h.heads):
        rows = (asked[head].unsqueeze(1) + run).flatten()
        q[head, rows] += (codes[which[head]] * high).reshape(-1, dim)
    k = _turned(k, torch.arange(h.total, device=device))
    q = _turned(q, torch.arange(before, h.total, device=device))
    # Attention rests on the first tokens, about as much as on all others together: what all queries
    # have in common scores as high there as the logarithm of their number.
    mean = q.mean((0, 1))
    k[:, :4] = mean * (
        SINK * torch.log(torch.tensor(float(h.total))) * dim**0.5 / mean.square().sum()
    )
    q = (q * (dim**-0.5 * LOG2E)).transpose(0, 1).contiguous()
    return Task(q, k, v, asked, said[which], answer_codes)


def accuracy(task: Task, attend: Attend, run: int, dtype: torch.dtype = torch.float32) -> float:
    """Share of the questions whose tokens bring the right answer: the nearest of 64 to their mean."""
    y = attend(task.q.to(dtype), task.k.to(dtype), task.v.to(dtype)).float()
    heads = task.asked_at.shape[0]
    steps = torch.arange(run, device=y.device)
    rows = task.asked_at.unsqueeze(-1) + steps
    found = torch.stack([y.view(-1, heads, y.shape[-1])[rows[h], h] for h in range(heads)])
    nearest = (found.mean(2) @ task.codes.T).argmax(-1)
    return float((nearest == task.answers).float().mean())
