"""Keys and values in pages of 32 tokens, for the compiled kernels.

A page holds all layers of its tokens and is rotated by places within the page alone; the page table
says which position a page begins at (`kernels/native/instructions.hpp`). So a page is shared by as
many sequences as begin the same way, and it can be attached at another position
(`segment_reuse.py`). A page is written only by the sequence that began it, and never where another
may read: one that was shared is copied first.
"""

from __future__ import annotations

from collections.abc import Sequence as IdSequence

import numpy as np
import torch
from torch import Tensor

from qcoder.kernels.native_decoder import PAGE_ENTRY, PAGE_TOKENS, NativeDecoder, Run
from qcoder.kernels.rotary import Rotary

MOST_FREE_BYTES = 64 << 20
"""Memory of pages that is kept for new ones."""


class Page:
    """Keys and values of up to 32 tokens, and which ones once it is full.

    `shared` once a second sequence may read it. `age` counts how often what the page was computed from
    was itself attached elsewhere: 0 is exact.
    """

    __slots__ = ("_store", "age", "data", "ids", "shared")

    def __init__(self, store: PageStore | None, age: int = 0, data: Tensor | None = None) -> None:
        self._store = store
        if data is None:
            assert store is not None, "memory comes from somewhere"
            data = store.take()
        self.data = data
        self.ids: tuple[int, ...] = ()
        self.shared, self.age = False, age

    @staticmethod
    def mapped(data: Tensor, ids: tuple[int, ...]) -> Page:
        """A full page in memory that is not to be written."""
        page = Page(None, data=data)
        page.ids, page.shared = ids, True
        return page

    def __del__(self) -> None:
        if self._store is not None:
            self._store.give_back(self.data)

    def copy(self, store: PageStore) -> Page:
        """A page with the same content, to be written on."""
        new = Page(store, self.age)
        new.data.copy_(self.data)
        return new


class PageStore:
    """Memory of pages that nobody has any more, for new ones: fresh memory costs page faults."""

    __slots__ = ("_free", "page_bytes")

    def __init__(self, page_bytes: int) -> None:
        self.page_bytes = page_bytes
        self._free: list[Tensor] = []

    def take(self) -> Tensor:
        """uint8 [page_bytes], finite numbers: what lies behind the last token is multiplied with zeros."""
        return self._free.pop() if self._free else torch.zeros(self.page_bytes, dtype=torch.uint8)

    def give_back(self, data: Tensor) -> None:
        """Keep the memory of a page, up to a limit."""
        if len(self._free) * self.page_bytes < MOST_FREE_BYTES:
            self._free.append(data)


class PagedSequence:
    """One growing sequence; offers what `kv_cache.Sequence` offers to the prefix cache.

    `starts[i]` is the position of the first token of page i. Computed tokens fill one page after the
    other; attached pages begin wherever the sequence ends, and leave the page before them as it is.
    With `exact_only` the sequence can be cut to what was computed from its own tokens alone.
    """

    __slots__ = (
        "_ages", "_decoder", "_max_tokens", "_store", "_table", "_turns", "exact", "exact_only", "ids", "pages",
        "starts",
    )  # fmt: skip

    def __init__(
        self, decoder: NativeDecoder, store: PageStore, max_tokens: int, exact_only: bool = True
    ) -> None:
        self._decoder, self._store = decoder, store
        self._max_tokens, self.exact_only = max_tokens, exact_only
        self.ids: list[int] = []
        self.pages: list[Page] = []
        self.starts: list[int] = []
        self.exact = 0
        self._ages: list[int] = []  # of what is computed behind each page
        self._turns: list[Tensor] = []
        self._table = np.zeros(16, dtype=PAGE_ENTRY)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def size_bytes(self) -> int:
        """Memory of the pages, those that are shared counted in each sequence."""
        return len(self.pages) * self._store.page_bytes

    @property
    def age(self) -> int:
        """Of what is computed next: more than that of the oldest page that was attached."""
        return self._ages[-1] if self._ages else 0

    def reserve(self, tokens: int) -> None:
        """Refuse more than the model's context (`ValueError`); pages are made when written."""
        if tokens > self._max_tokens:
            raise ValueError(f"{tokens} tokens, the cache holds {self._max_tokens}")

    def run(self, ids: list[int], rotary: Rotary, keep: int) -> Run:
        """Append `ids`, which are to be computed; the last `keep` of them want logits. See `Run`.

        Whoever does not compute them cuts the sequence again.
        """
        count = len(ids)
        start, end = len(self.ids), len(self.ids) + count
        self._make_room(start, end)
        # New tokens go into the last pages, which lie 32 positions apart.
        first = int(np.searchsorted(self.starts, start, side="right")) - 1
        slots = np.arange(start, end)
        offsets = slots - self.starts[first]
        rows = rotary.rows(start, end)
        pages = self._table[: len(self.pages)].copy()
        pages["count"] = np.diff(self.starts, append=end)
        self._extend(ids)
        return Run(
            pages,
            first + offsets // PAGE_TOKENS,
            offsets % PAGE_TOKENS,
            slots + 1,
            rows[0],
            rows[1],
            np.arange(count - keep, count),
        )

    def attach(self, pages: IdSequence[Page], end: int | None = None, exact: bool = False) -> None:
        """Append full pages that were computed elsewhere, whatever stood before them there.

        end: of the last page only its first tokens, so that the sequence has that length; `exact`: exactly
        these tokens stood before them, from the first on.
        """
        for page in pages:
            page.shared = True
            age = self.age if exact else max(self.age, 1 + page.age)
            self._append(page, len(self.ids), age)
            self.ids.extend(page.ids)
        if end is not None:
            del self.ids[end:]
        if exact:
            self.exact = len(self.ids)

    def snapshot(self) -> None:
        """Nothing to do: pages can be cut anywhere."""

    def cuttable(self, length: int) -> int:
        """The longest prefix of at most `length` tokens that the sequence can be cut to."""
        return min(length, self.exact if self.exact_only else len(self.ids))

    def truncate(self, length: int) -> None:
        """Forget everything from `length` on."""
        del self.ids[length:]
        self.exact = min(self.exact, length)
        used = self._pages_of(length)
        for part in (self.pages, self.starts, self._ages, self._turns):
            del part[used:]
        if used and self.starts[-1] + PAGE_TOKENS > length and not self.pages[-1].shared:
            self.pages[-1].ids = ()

    def copy_prefix(self, length: int) -> PagedSequence:
        """A new sequence with the first `length` tokens of this one, in the same pages."""
        copy = PagedSequence(self._decoder, self._store, self._max_tokens, self.exact_only)
        copy.ids, copy.exact = self.ids[:length], min(self.exact, length)
        used = self._pages_of(length)
        copy.pages, copy.starts = self.pages[:used], self.starts[:used]
        copy._ages, copy._turns = self._ages[:used], self._turns[:used]
        for page in copy.pages:
            page.shared = True
        copy._table = self._table[: max(used, 16)].copy()
        return copy

    def check_integrity(self) -> None:
        """Assert what must always hold; keys and values of known tokens are finite numbers."""
        assert len(self.pages) == len(self.starts) == len(self._ages) == len(self._turns)
        assert len(self.pages) <= len(self._table)
        assert self.exact <= len(self.ids) <= self._max_tokens
        ends = [*self.starts[1:], len(self.ids)] if self.starts else []
        for index, (page, start, end) in enumerate(zip(self.pages, self.starts, ends, strict=True)):
            assert 0 < end - start <= PAGE_TOKENS
            assert not page.ids or page.ids[: end - start] == tuple(self.ids[start:end])
            assert end > self.exact or start == PAGE_TOKENS * index, "exact pages lie side by side"
            assert self._table["data"][index] == page.data.data_ptr()
            assert self._table["turn"][index] == self._turns[index].data_ptr()
            if self._decoder.shape.kv_bits == 16:
                assert bool(page.data.view(torch.float16).isfinite().all())

    def _extend(self, ids: list[int]) -> None:
        if self.exact == len(self.ids):
            self.exact += len(ids)
        self.ids.extend(ids)
        end = len(self.ids)
        for start, page in zip(reversed(self.starts), reversed(self.pages), strict=True):
            if page.ids:
                break
            # A page that another was attached behind, before it was full, never will be.
            if end - start == PAGE_TOKENS:
                page.ids = tuple(self.ids[start:end])
            end = start

    def _pages_of(self, length: int) -> int:
        return int(np.searchsorted(self.starts, length, side="left"))

    def _make_room(self, start: int, end: int) -> None:
        """Pages for the tokens from `start` to `end`; one that others read is not written."""
        age = self.age
        if self.pages and start < self.starts[-1] + PAGE_TOKENS:
            if self.pages[-1].shared:
                self.pages[-1] = self.pages[-1].copy(self._store)
                self._table["data"][len(self.pages) - 1] = self.pages[-1].data.data_ptr()
            self.pages[-1].age = max(age, self.pages[-1].age)
            start = self.starts[-1] + PAGE_TOKENS
        for position in range(start, end, PAGE_TOKENS):
            self._append(Page(self._store, age), position, age)

    def _append(self, page: Page, position: int, age: int) -> None:
        index, turn = len(self.pages), self._decoder.turn(position)
        if index == len(self._table):
            self._table = np.concatenate([self._table, np.zeros_like(self._table)])
        self._table[index] = (page.data.data_ptr(), turn.data_ptr(), 0)
        self.pages.append(page)
        self.starts.append(position)
        self._ages.append(age)
        self._turns.append(turn)
