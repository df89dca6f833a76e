"""Keys and values in pages of 32 tokens, for the compiled kernels.

A page holds all layers of its tokens and is rotated by places within the page alone; the page table
says which position a page begins at (`kernels/native/instructions.hpp`). So a page is shared by as
many sequences as begin the same way, and it can be placed anywhere. A page is written only by the
sequence that began it, and never where another may read: one that was shared is copied first.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qcoder.kernels.native_decoder import PAGE_ENTRY, PAGE_TOKENS, NativeDecoder, Run
from qcoder.kernels.rotary import Rotary


class Page:
    """Keys and values of up to 32 tokens; `shared` once a second sequence has it."""

    __slots__ = ("data", "shared")

    def __init__(self, halves: int) -> None:
        # Zeros, since whatever lies behind the last token is multiplied with weights of zero.
        self.data: Tensor = torch.zeros(halves, dtype=torch.float16)
        self.shared = False

    def copy(self) -> Page:
        """A page with the same content."""
        new = Page(0)
        new.data = self.data.clone()
        return new


class PagedSequence:
    """One growing sequence; offers what `kv_cache.Sequence` offers to the prefix cache.

    `ids[i]` lies in page i // 32 at place i % 32.
    """

    __slots__ = ("_decoder", "_max_tokens", "_pages", "_table", "_turns", "ids")

    def __init__(self, decoder: NativeDecoder, max_tokens: int) -> None:
        self._decoder, self._max_tokens = decoder, max_tokens
        self.ids: list[int] = []
        self._pages: list[Page] = []
        self._turns: list[Tensor] = []
        self._table = np.zeros(16, dtype=PAGE_ENTRY)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def capacity(self) -> int:
        """Tokens that fit into the pages there are."""
        return PAGE_TOKENS * len(self._pages)

    @property
    def size_bytes(self) -> int:
        """Memory of the pages, those that are shared counted in each sequence."""
        return len(self._pages) * self._decoder.page_halves * 2

    def reserve(self, tokens: int) -> None:
        """Refuse more than the model's context (`ValueError`); pages are made when written."""
        if tokens > self._max_tokens:
            raise ValueError(f"{tokens} tokens, the cache holds {self._max_tokens}")

    def run(self, count: int, rotary: Rotary, keep: int) -> Run:
        """Make room for `count` new tokens, of which the last `keep` want logits; see `Run`."""
        start, end = len(self.ids), len(self.ids) + count
        self._make_room(start, end)
        slots = np.arange(start, end)
        rows = rotary.rows(start, end)
        pages = self._table[: len(self._pages)].copy()
        pages["count"] = PAGE_TOKENS
        pages["count"][-1] = end - PAGE_TOKENS * (len(pages) - 1)
        return Run(
            pages,
            slots // PAGE_TOKENS,
            slots % PAGE_TOKENS,
            slots + 1,
            rows[0],
            rows[1],
            np.arange(count - keep, count),
        )

    def extend(self, ids: list[int]) -> None:
        """All layers have computed `ids`: from now on they count."""
        self.ids.extend(ids)

    def snapshot(self) -> None:
        """Nothing to do: pages can be cut anywhere."""

    def cuttable(self, length: int) -> int:
        """The longest prefix of at most `length` tokens that the sequence can be cut to."""
        return min(length, len(self.ids))

    def truncate(self, length: int) -> None:
        """Forget everything from `length` on."""
        del self.ids[length:]
        used = -(-length // PAGE_TOKENS)
        del self._pages[used:], self._turns[used:]

    def copy_prefix(self, length: int) -> PagedSequence:
        """A new sequence with the first `length` tokens of this one, in the same pages."""
        copy = PagedSequence(self._decoder, self._max_tokens)
        copy.ids = self.ids[:length]
        used = -(-length // PAGE_TOKENS)
        copy._pages, copy._turns = self._pages[:used], self._turns[:used]
        for page in copy._pages:
            page.shared = True
        copy._table = self._table[: max(used, 16)].copy()
        return copy

    def check_integrity(self) -> None:
        """Assert what must always hold; keys and values of known tokens are finite numbers."""
        assert len(self._pages) == len(self._turns) == -(-len(self.ids) // PAGE_TOKENS)
        assert len(self.ids) <= self._max_tokens
        assert len(self._pages) <= len(self._table)
        for index, page in enumerate(self._pages):
            assert self._table["data"][index] == page.data.data_ptr()
            assert self._table["turn"][index] == self._turns[index].data_ptr()
            assert bool(page.data.isfinite().all())

    def _make_room(self, start: int, end: int) -> None:
        """Pages for the tokens from `start` to `end`; one that others read is not written."""
        needed = -(-end // PAGE_TOKENS)
        if needed > len(self._table):
            grown = np.zeros(max(needed, 2 * len(self._table)), dtype=PAGE_ENTRY)
            grown[: len(self._table)] = self._table
            self._table = grown
        if start % PAGE_TOKENS and self._pages[-1].shared:
            self._pages[-1] = self._pages[-1].copy()
            self._table["data"][len(self._pages) - 1] = self._pages[-1].data.data_ptr()
        for index in range(len(self._pages), needed):
            page, turn = Page(self._decoder.page_halves), self._decoder.turn(PAGE_TOKENS * index)
            self._pages.append(page)
            self._turns.append(turn)
            self._table[index] = (page.data.data_ptr(), turn.data_ptr(), 0)
