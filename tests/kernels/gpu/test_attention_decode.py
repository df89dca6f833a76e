"""Attention of few new tokens over pages."""

import pytest
import torch
from torch import Tensor

from qcoder.kernels.gpu.attention_decode import (
    Places,
    attention_decode,
    attention_decode_reference,
    decode_scratch,
)
from qcoder.kernels.gpu.heads import Heads, split_heads
from qcoder.kernels.gpu.pages import PAGE, LayerPages, layer_pages, rotated, rotation
from qcoder.kernels.rotary import Yarn

BOUNDS = {torch.float32: 2e-5, torch.int8: 0.05, torch.float8_e4m3fn: 0.15}


class Sequences:
    """Sequences whose tokens are decoded a few at a time, beside their plain keys and values."""

    def __init__(self, heads: Heads, dtype: torch.dtype, rotary_dim: int, yarn: Yarn | None = None):
        self.heads, self.turns = heads, rotation(rotary_dim, 1e4, yarn, 4096, "cpu")
        self.pages = layer_pages(64, heads.kv_heads, heads.head_dim, dtype, "cpu")
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}
        self.free = torch.randperm(64).tolist()
        self.tables: dict[int, list[int]] = {}
        self.scratch = decode_scratch(8, heads, "cpu")

    def fill(self, name: int, count: int) -> None:
        """`count` random tokens, written as the decode kernel would."""
        h = self.heads
        keys = torch.randn(count, h.kv_heads, h.head_dim)
        values = torch.randn(count, h.kv_heads, h.head_dim)
        table = self.tables.setdefault(name, [])
        for t in range(count):
            if t % PAGE == 0:
                table.append(self.free.pop())
            at = t % PAGE
            cos, sin = self.turns.places[:, at]
            write(self.pages, table[-1], at, rotated(keys[t], cos, sin), values[t])
        self.keys[name], self.values[name] = keys, values

    def step(self, counts: dict[int, int]) -> tuple[Tensor, Tensor]:
        """New tokens of some sequences: the kernel's output and the plain one."""
        qkv = torch.randn(sum(counts.values()), self.heads.width)
        position, first, rows, keys, values = [], [], [], [], []
        for name, count in counts.items():
            begin = len(position)
            before = self.keys[name].shape[0]
            table = self.tables[name]
            while len(table) * PAGE < before + count:
                table.append(self.free.pop())
            for t in range(count):
                position.append(before + t)
                first.append(begin)
                rows.append(table + [0] * (8 - len(table)))
                keys.append(self.keys[name])
                values.append(self.values[name])
        places = Places(*(torch.tensor(x, dtype=torch.int32) for x in (position, first, rows)))
        arguments = (qkv, self.heads, places, self.turns)
        got = attention_decode(*arguments, self.pages, self.scratch)
        wanted = attention_decode_reference(*arguments, keys, values)
        _, k, v, _ = split_heads(qkv, self.heads)
        begin = 0
        for name, count in counts.items():
            new = slice(begin, begin + count)
            self.keys[name] = torch.cat([self.keys[name], k[new]])
            self.values[name] = torch.cat([self.values[name], v[new]])
            begin += count
        return got, wanted


def write(pages: LayerPages, number: int, at: int, key: Tensor, value: Tensor) -> None:
    for data, scales, x in (
        (pages.keys, pages.key_scales, key),
        (pages.values, pages.value_scales, value),
    ):
        if scales is not None:
            scales[number, :, at] = x.abs().amax(-1) / 127
            x = (x / scales[number, :, at].unsqueeze(-1)).round()
        data[number, :, at] = x.to(data.dtype)


def heads(dim: int, **more: object) -> Heads:
    norms = {"q_norm": torch.rand(dim) + 0.5, "k_norm": torch.rand(dim) + 0.5}
    return Heads(4, 2, dim, 1e-6, **norms, **more)


@pytest.mark.parametrize("dtype", list(BOUNDS))
def test_equals_attention_over_all_tokens(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    sequences = Sequences(heads(32), dtype, 32)
    sequences.fill(0, 150)
    sequences.fill(1, 1)
    sequences.fill(2, 64)
    for counts in ({0: 1, 1: 1, 2: 1}, {0: 3, 2: 2}, {1: 1}):
        got, wanted = sequences.step(counts)
        assert (got - wanted).abs().max() < BOUNDS[dtype]


def test_partial_rotation_with_a_gate_and_yarn() -> None:
    torch.manual_seed(1)
    sequences = Sequences(heads(32, gated=True), torch.float32, 16, Yarn(4.0, 64))
    sequences.fill(0, 130)
    for _ in range(2):
        got, wanted = sequences.step({0: 2})
        assert (got - wanted).abs().max() < BOUNDS[torch.float32]


@pytest.mark.parametrize("window", [1, 5, 64, 100])
def test_a_window_hides_what_is_before_it(window: int) -> None:
    torch.manual_seed(2)
    sequences = Sequences(heads(16, window=window), torch.float32, 16)
    sequences.fill(0, 140)
    got, wanted = sequences.step({0: 3})
    assert (got - wanted).abs().max() < BOUNDS[torch.float32]


def test_a_first_token_sees_itself_only() -> None:
    torch.manual_seed(3)
    sequences = Sequences(Heads(2, 2, 16, 1e-6), torch.float32, 16)
    sequences.fill(0, 0)
    got, wanted = sequences.step({0: 1})
    assert (got - wanted).abs().max() < BOUNDS[torch.float32]
