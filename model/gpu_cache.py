"""Sequences on the device: numbers of pages in one pool, and slots of states.

A page holds 64 tokens of all attention layers; sequences share full pages and copy the one they write
to. The state of a linear-attention layer cannot be cut back: `snapshot` keeps a copy of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence as IdSequence

import torch
from torch import Tensor

from qcoder.kernels.gpu.delta_net import DeltaNetStates
from qcoder.kernels.gpu.pages import PAGE, LayerPages
from qcoder.model.errors import ModelError

MAX_SNAPSHOTS = 6


class PagePool:
    """Pages of all attention layers, counted by how many sequences have them."""

    def __init__(self, layers: IdSequence[LayerPages], states: IdSequence[DeltaNetStates]) -> None:
        self.layers, self.states = tuple(layers), tuple(states)
        count = layers[0].keys.shape[0] if layers else 1
        self._owners = [0] * count
        self._free = list(range(count - 1, -1, -1))
        slots = states[0].memory.shape[0] if states else 0
        self._slots = list(range(slots - 1, -1, -1))

    @property
    def page_bytes(self) -> int:
        """Memory of a page."""
        return sum(
            t[0].nbytes
            for layer in self.layers
            for t in (layer.keys, layer.values, layer.key_scales, layer.value_scales)
            if t is not None
        )

    @property
    def state_bytes(self) -> int:
        """Memory of one state of all layers."""
        return sum(s.memory[0].nbytes + s.history[0].nbytes for s in self.states)

    @property
    def free(self) -> int:
        """Pages that nobody has."""
        return len(self._free)

    def take(self) -> int:
        """A page for one sequence; raises `ModelError`."""
        if not self._free:
            raise ModelError(
                "the GPU's key-value cache is full: close some requests, or lower max_context"
            )
        number = self._free.pop()
        self._owners[number] = 1
        return number

    def share(self, number: int) -> None:
        """One sequence more has the page."""
        self._owners[number] += 1

    def shared(self, number: int) -> bool:
        """Whether writing into it would change another sequence."""
        return self._owners[number] > 1

    def give_back(self, number: int) -> None:
        """One sequence less has it."""
        self._owners[number] -= 1
        if self._owners[number] == 0:
            self._free.append(number)

    def copy(self, number: int) -> int:
        """A page of its own with the same content."""
        new = self.take()
        for layer in self.layers:
            for data in (layer.keys, layer.values, layer.key_scales, layer.value_scales):
                if data is not None:
                    data[new].copy_(data[number])
        return new

    def take_slot(self) -> int:
        """A place for states that have seen nothing; raises `ModelError`."""
        if not self._slots:
            raise ModelError("too many sequences at once for the states kept on the GPU")
        slot = self._slots.pop()
        for state in self.states:
            state.memory[slot].zero_()
            state.history[slot].zero_()
        return slot

    def give_slot_back(self, slot: int) -> None:
        """Nobody has the state any more."""
        self._slots.append(slot)

    def check_integrity(self, sequences: IdSequence[GpuSequence]) -> None:
        """Assert that pages and slots are held by exactly these sequences."""
        owners = [0] * len(self._owners)
        for sequence in sequences:
            for number in sequence.pages:
                owners[number] += 1
        assert owners == self._owners
        assert sorted(self._free) == [n for n, count in enumerate(owners) if count == 0]


class GpuSequence:
    """One growing sequence; offers what `kv_cache.CachedSequence` says."""

    def __init__(self, pool: PagePool, max_tokens: int) -> None:
        self._pool, self._max_tokens = pool, max_tokens
        self.ids: list[int] = []
        self.pages: list[int] = []
        self.slot = pool.take_slot() if pool.states else -1
        self._table, self._known = torch.zeros(0, dtype=torch.int32), False
        self._snapshots: dict[int, list[tuple[Tensor, Tensor]]] = {}

    def __del__(self) -> None:
        for number in getattr(self, "pages", ()):
            self._pool.give_back(number)
        if getattr(self, "slot", -1) >= 0:
            self._pool.give_slot_back(self.slot)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def size_bytes(self) -> int:
        """Memory of the pages, those that are shared counted in each sequence, and of the states."""
        states = (1 + len(self._snapshots)) * self._pool.state_bytes
        return len(self.pages) * self._pool.page_bytes + states

    def reserve(self, tokens: int) -> None:
        """Make room for `tokens` in all; raises `ValueError` beyond the model's context."""
        if tokens > self._max_tokens:
            raise ValueError(f"{tokens} tokens, the cache holds {self._max_tokens}")
        if len(self.ids) % PAGE and tokens > len(self.ids) and self._pool.shared(self.pages[-1]):
            own = self._pool.copy(self.pages[-1])
            self._pool.give_back(self.pages[-1])
            self.pages[-1], self._known = own, False
        while len(self.pages) * PAGE < tokens:
            self.pages.append(self._pool.take())
            self._known = False

    def table(self, width: int, device: torch.device) -> Tensor:
        """The numbers of the pages [width] int32 on the device, made anew when they change."""
        if self._table.shape[0] != width or not self._known:
            numbers = torch.tensor(self.pages, dtype=torch.int32)
            self._table = torch.zeros(width, dtype=torch.int32, device=device)
            self._table[: len(self.pages)] = numbers.to(device)
            self._known = True
        return self._table

    def extend(self, ids: list[int]) -> None:
        """All layers have computed `ids`: from now on they count."""
        self.ids.extend(ids)

    def snapshot(self) -> None:
        """Keep the states, so that the sequence can be cut here later; the oldest ones go."""
        if self.slot < 0:
            return
        self._snapshots[len(self.ids)] = [
            (s.memory[self.slot].clone(), s.history[self.slot].clone()) for s in self._pool.states
        ]
        while len(self._snapshots) > MAX_SNAPSHOTS:
            del self._snapshots[next(iter(self._snapshots))]

    def cuttable(self, length: int) -> int:
        """The longest prefix of at most `length` tokens that the sequence can be cut to."""
        if self.slot < 0 or length >= len(self.ids):
            return min(length, len(self.ids))
        kept = sorted(self._snapshots)
        at = bisect_right(kept, length)
        return kept[at - 1] if at else 0

    def truncate(self, length: int) -> None:
        """Forget everything from `length` on, a result of `cuttable`."""
        assert self.cuttable(length) == length, "a state cannot be cut where none was kept"
        if self.slot >= 0 and length < len(self.ids):
            self._restore(self.slot, length)
            self._snapshots = {at: x for at, x in self._snapshots.items() if at <= length}
        del self.ids[length:]
        used = -(-length // PAGE)
        for number in self.pages[used:]:
            self._pool.give_back(number)
        del self.pages[used:]
        self._known = False

    def copy_prefix(self, length: int) -> GpuSequence:
        """A new sequence with the first `length` tokens, a result of `cuttable`."""
        copy = GpuSequence(self._pool, self._max_tokens)
        copy.ids = self.ids[:length]
        for number in self.pages[: -(-length // PAGE)]:
            self._pool.share(number)
            copy.pages.append(number)
        if self.slot >= 0:
            if length == len(self.ids):
                for state in self._pool.states:
                    state.memory[copy.slot].copy_(state.memory[self.slot])
                    state.history[copy.slot].copy_(state.history[self.slot])
            else:
                self._restore(copy.slot, length)
            copy._snapshots = {at: x for at, x in self._snapshots.items() if at <= length}
        return copy

    def check_integrity(self) -> None:
        """Assert what must always hold."""
        assert len(self.ids) <= self._max_tokens
        assert len(self.pages) * PAGE >= len(self.ids)
        assert len(set(self.pages)) == len(self.pages)

    def _restore(self, slot: int, length: int) -> None:
        kept = self._snapshots.get(length)
        for index, state in enumerate(self._pool.states):
            if kept is None:  # the beginning
                state.memory[slot].zero_()
                state.history[slot].zero_()
            else:
                state.memory[slot].copy_(kept[index][0])
                state.history[slot].copy_(kept[index][1])
