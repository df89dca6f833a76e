"""What was computed of one sequence of tokens: keys and values, and the state of linear attention.

Keys are stored after rotation: reuse is by exact prefix (`prefix_cache.py`), so positions never
move. Buffers grow by doubling, since a context may allow 256k tokens that hardly any prompt uses.

The state of a gated DeltaNet has a fixed size and holds all tokens at once. It cannot be cut back;
a sequence returns to an earlier length only where a snapshot was kept. A layer's state is a value
that is replaced and never changed in place, so a snapshot is a reference, not a copy.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

FIRST_CAPACITY = 512
MAX_SNAPSHOTS = 6


@dataclass(frozen=True, slots=True)
class StateShape:
    """What the linear-attention layers hold, however many tokens there were.

    Per layer a matrix [key_dim, value_dim] float32 a head, and the last `history` inputs
    [channels] of the convolution.
    """

    layers: int
    heads: int
    key_dim: int
    value_dim: int
    channels: int
    history: int

    def size_bytes(self, dtype: torch.dtype) -> int:
        """Bytes of one snapshot of all layers."""
        matrices = self.heads * self.key_dim * self.value_dim * torch.float32.itemsize
        return self.layers * (matrices + self.history * self.channels * dtype.itemsize)


@dataclass(frozen=True, slots=True)
class CacheShape:
    """What a token costs in a cache, and how many may be held.

    `layers` are those with keys and values. `rotary` names how keys were rotated (base, YaRN): with
    the model it is what the values depend on besides the tokens, so no cache is shared across it.
    """

    layers: int
    kv_heads: int
    head_dim: int
    max_tokens: int
    dtype: torch.dtype = torch.float32
    state: StateShape | None = None
    rotary: str = ""

    @property
    def token_bytes(self) -> int:
        """Bytes of one token, keys and values of all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.dtype.itemsize

    @property
    def state_bytes(self) -> int:
        """Bytes of one snapshot, 0 without linear attention."""
        return 0 if self.state is None else self.state.size_bytes(self.dtype)


class CachedSequence(Protocol):
    """What the prefix cache needs of a sequence: here, or in pages (`paged_cache.py`)."""

    ids: list[int]

    def __len__(self) -> int: ...

    @property
    def size_bytes(self) -> int:
        """Memory of what is held."""
        ...

    def reserve(self, tokens: int) -> None:
        """Make room for `tokens` in all; raises `ValueError` beyond the model's context."""
        ...

    def snapshot(self) -> None:
        """Make it possible to cut the sequence here later."""
        ...

    def cuttable(self, length: int) -> int:
        """The longest prefix of at most `length` tokens that the sequence can be cut to."""
        ...

    def truncate(self, length: int) -> None:
        """Forget everything from `length` on, a result of `cuttable`."""
        ...

    def copy_prefix(self, length: int) -> Self:
        """A new sequence with the first `length` tokens, a result of `cuttable`."""
        ...

    def check_integrity(self) -> None:
        """Assert what must always hold."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class LayerState:
    """Of one linear-attention layer. Never changed in place.

    memory: [heads, key_dim, value_dim] float32; history: [history, channels].
    """

    memory: Tensor
    history: Tensor


States = tuple[LayerState, ...]


class Sequence:
    """One growing sequence: `ids[i]` was computed into column i of every layer's buffers.

    `extend` is called after the last layer has written its columns and states, so that an
    interrupted forward pass leaves the sequence as it was.
    """

    __slots__ = ("_keys", "_pending", "_shape", "_snapshots", "_states", "_values", "ids")

    def __init__(self, shape: CacheShape, capacity: int = FIRST_CAPACITY) -> None:
        self._shape = shape
        self.ids: list[int] = []
        self._keys = self._buffer(min(capacity, shape.max_tokens))
        self._values = torch.empty_like(self._keys)
        self._states = initial_states(shape)
        self._pending = list(self._states)
        self._snapshots: dict[int, States] = {}

    def _buffer(self, capacity: int) -> Tensor:
        s = self._shape
        return torch.empty(s.layers, s.kv_heads, capacity, s.head_dim, dtype=s.dtype)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def capacity(self) -> int:
        """Tokens that fit without growing."""
        return int(self._keys.shape[2])

    @property
    def size_bytes(self) -> int:
        """Memory of the buffers, the state and its snapshots."""
        states = (1 + len(self._snapshots)) * self._shape.state_bytes
        return self.capacity * self._shape.token_bytes + states

    def reserve(self, tokens: int) -> None:
        """Make room for `tokens` in all; raises `ValueError` beyond the model's context."""
        if tokens <= self.capacity:
            return
        if tokens > self._shape.max_tokens:
            raise ValueError(f"{tokens} tokens, the cache holds {self._shape.max_tokens}")
        capacity = min(max(tokens, 2 * self.capacity), self._shape.max_tokens)
        used = len(self.ids)
        for name in ("_keys", "_values"):
            old, new = getattr(self, name), self._buffer(capacity)
            new[:, :, :used] = old[:, :, :used]
            setattr(self, name, new)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store columns [tokens, kv_heads, head_dim] behind `ids`; returns all up to them.

        Room must have been reserved. The results, [kv_heads, total, head_dim], are views.
        """
        start = len(self.ids)
        end = start + keys.shape[0]
        all_keys, all_values = self._keys[layer, :, :end], self._values[layer, :, :end]
        all_keys[:, start:] = keys.transpose(0, 1)
        all_values[:, start:] = values.transpose(0, 1)
        return all_keys, all_values

    def state(self, layer: int) -> LayerState:
        """What a linear-attention layer holds of `ids`."""
        return self._states[layer]

    def set_state(self, layer: int, state: LayerState) -> None:
        """What the layer will hold once `extend` is called."""
        self._pending[layer] = state

    def extend(self, ids: list[int]) -> None:
        """All layers have computed `ids`: from now on they count."""
        self.ids.extend(ids)
        self._states = tuple(self._pending)

    def snapshot(self) -> None:
        """Keep the state, so that the sequence can be cut here later; the oldest ones go.

        Costs nothing and does nothing without linear attention.
        """
        if not self._states:
            return
        self._snapshots[len(self.ids)] = self._states
        while len(self._snapshots) > MAX_SNAPSHOTS:
            del self._snapshots[next(iter(self._snapshots))]

    def cuttable(self, length: int) -> int:
        """The longest prefix of at most `length` tokens that the sequence can be cut to."""
        if not self._states or length >= len(self.ids):
            return min(length, len(self.ids))
        kept = sorted(self._snapshots)
        at = bisect_right(kept, length)
        return kept[at - 1] if at else 0

    def truncate(self, length: int) -> None:
        """Forget everything from `length` on, a result of `cuttable`; buffers are reused."""
        assert self.cuttable(length) == length, "a state cannot be cut where none was kept"
        self._states = self._states_at(length)
        self._pending = list(self._states)
        self._snapshots = self._snapshots_to(length)
        del self.ids[length:]

    def copy_prefix(self, length: int) -> Sequence:
        """A new sequence with the first `length` tokens of this one, a result of `cuttable`."""
        assert self.cuttable(length) == length, "a state cannot be cut where none was kept"
        copy = Sequence(self._shape, max(length, FIRST_CAPACITY))
        copy._keys[:, :, :length] = self._keys[:, :, :length]
        copy._values[:, :, :length] = self._values[:, :, :length]
        copy._states = self._states_at(length)
        copy._pending = list(copy._states)
        copy._snapshots = self._snapshots_to(length)
        copy.ids = self.ids[:length]
        return copy

    def _states_at(self, length: int) -> States:
        if length == len(self.ids):
            return self._states
        return self._snapshots[length] if length and self._states else initial_states(self._shape)

    def _snapshots_to(self, length: int) -> dict[int, States]:
        return {at: states for at, states in self._snapshots.items() if at <= length}

    def check_integrity(self) -> None:
        """Assert what must always hold; columns and states of known tokens are finite numbers."""
        used = len(self.ids)
        assert used <= self.capacity <= self._shape.max_tokens
        assert self._keys.shape == self._values.shape
        assert bool(self._keys[:, :, :used].isfinite().all())
        assert bool(self._values[:, :, :used].isfinite().all())
        fresh = initial_states(self._shape)
        assert len(self._snapshots) <= MAX_SNAPSHOTS
        assert all(0 < at <= used for at in self._snapshots)
        for states in (self._states, *self._snapshots.values()):
            for state, like in zip(states, fresh, strict=True):
                for tensor, zero in ((state.memory, like.memory), (state.history, like.history)):
                    assert (tensor.shape, tensor.dtype) == (zero.shape, zero.dtype)
                    assert bool(tensor.isfinite().all())


def initial_states(shape: CacheShape) -> States:
    """States before the first token; all layers share the zeros."""
    if (s := shape.state) is None:
        return ()
    memory = torch.zeros(s.heads, s.key_dim, s.value_dim)
    history = torch.zeros(s.history, s.channels, dtype=shape.dtype)
    return (LayerState(memory, history),) * s.layers
