"""Sequences that were computed, kept for the next prompt that starts the same way.

Between two keystrokes most of a prompt stays: the packed files, the suffix, the text before the
cursor. The sequence with the longest common prefix is cut there and continued. A model with linear
attention can be cut only where a snapshot of its state was kept: `boundaries` says where to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from collections.abc import Sequence as IdSequence
from typing import Generic, TypeVar

from qcoder.model.kv_cache import MAX_SNAPSHOTS, CachedSequence

S = TypeVar("S", bound=CachedSequence)

MAX_SEQUENCES = 6
MAX_BYTES = 1 << 30
KEEP_SHARE = 0.5
"""A sequence that would lose more than this share of its tokens is copied, not cut."""


def common_prefix(a: IdSequence[int], b: IdSequence[int]) -> int:
    """Number of equal leading ids."""
    low, high = 0, min(len(a), len(b))
    # Slices compare a hundred times faster than a loop, so the first difference is searched by halves.
    a, b = tuple(a[:high]), tuple(b[:high])
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def boundaries(ids: IdSequence[int], special: Collection[int]) -> list[int]:
    """Lengths at which the next prompt may part from this one: where to keep a state.

    Before the special tokens, which stand between the files and around the cursor, and before the
    last token, for the same prompt once more. The last ones are kept, and of the others those next
    to equal steps, since changes come late in a prompt more often than early.
    """
    last = len(ids) - 1
    found = [at for at in range(1, last) if ids[at] in special]
    late, early = found[-2:], found[:-2]
    room = MAX_SNAPSHOTS - 1 - len(late)
    marks = [late[0] * step // (room + 1) for step in range(1, room + 1)] if early else []
    chosen = {min(early, key=lambda at: abs(at - mark)) for mark in marks}
    return sorted({*chosen, *late, *([last] if last > 0 else [])})


class PrefixCache(Generic[S]):
    """A few computed sequences, least recently used first; within a number and a size.

    The newest sequence always stays, even if it alone is larger than the cap.
    """

    __slots__ = ("_max_bytes", "_max_sequences", "_new_sequence", "_sequences")

    def __init__(
        self,
        new_sequence: Callable[[], S],
        max_sequences: int = MAX_SEQUENCES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._new_sequence = new_sequence
        self._max_sequences, self._max_bytes = max_sequences, max_bytes
        self._sequences: list[S] = []

    def __len__(self) -> int:
        return len(self._sequences)

    @property
    def size_bytes(self) -> int:
        """Memory of all sequences."""
        return sum(s.size_bytes for s in self._sequences)

    @property
    def sequences(self) -> tuple[S, ...]:
        """What is kept."""
        return tuple(self._sequences)

    def longest(self, ids: IdSequence[int]) -> int:
        """How many of the ids `acquire` would find."""
        return self._longest(ids)[1]

    def acquire(
        self, ids: IdSequence[int], total_tokens: int, busy: Collection[S] = ()
    ) -> tuple[S, int]:
        """A sequence cut to the first n ids of the prompt, and n; n < len(ids).

        The last token is always computed again: its logits are what the prompt is for. The caller
        continues the sequence in place, up to `total_tokens`; it belongs to the cache. One of `busy`
        is copied, never cut.
        """
        best, shared = self._longest(ids)
        if best is None:
            taken = self._new_sequence()
        elif any(best is one for one in busy) or shared < KEEP_SHARE * len(best.ids):
            # Another prompt (another file, a review) is about to be overwritten: keep both.
            taken = best.copy_prefix(shared)
            self._touch(best)
        else:
            taken = best
            taken.truncate(shared)
        taken.reserve(total_tokens)
        self._touch(taken)
        self._evict()
        return taken, shared

    def put(self, sequence: S) -> None:
        """Keep a sequence that was made elsewhere."""
        self._touch(sequence)
        self._evict()

    def check_integrity(self) -> None:
        """Assert what must always hold."""
        assert len(self._sequences) <= self._max_sequences
        assert len(self._sequences) <= 1 or self.size_bytes <= self._max_bytes
        assert len({id(s) for s in self._sequences}) == len(self._sequences)
        for sequence in self._sequences:
            sequence.check_integrity()

    def _longest(self, ids: IdSequence[int]) -> tuple[S | None, int]:
        best: S | None = None
        most = 0
        for sequence in self._sequences:
            shared = sequence.cuttable(min(common_prefix(sequence.ids, ids), len(ids) - 1))
            # At equal prefixes the one that loses least, then the most recent.
            if shared > most or (
                shared == most > 0 and best and len(sequence.ids) <= len(best.ids)
            ):
                best, most = sequence, shared
        return best, most

    def _touch(self, sequence: S) -> None:
        if sequence in self._sequences:
            self._sequences.remove(sequence)
        self._sequences.append(sequence)

    def _evict(self) -> None:
        while len(self._sequences) > 1 and (
            len(self._sequences) > self._max_sequences or self.size_bytes > self._max_bytes
        ):
            del self._sequences[0]
