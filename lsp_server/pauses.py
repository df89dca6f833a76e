"""Python's search for cycles of garbage, kept out of the time between a key and its answer.

Nearly everything here is freed as soon as nobody refers to it. What the search costs goes with the
objects that stay, which are many once a workspace is indexed: by itself it looked through all of them
in every tenth or so of the packs of a large prompt, for 10 to 30 ms each time.
"""

from __future__ import annotations

import gc

YOUNG, MIDDLE, OLD = 20_000, 10, 20
"""New objects, and searches among them, before the next larger search; Python's own are 700, 10, 10."""


def search_seldom() -> None:
    """To be called once by a process that answers while somebody types."""
    gc.set_threshold(YOUNG, MIDDLE, OLD)


def keep_what_is_there() -> None:
    """After a scan: the index stays, and is not looked through again."""
    gc.collect()
    gc.freeze()


def free_what_is_gone() -> None:
    """Find all garbage now, also among what was there before a scan: a model that nobody has any more."""
    gc.unfreeze()
    keep_what_is_there()
