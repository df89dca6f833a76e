"""Which paths belong to a workspace, remembered from one listing of it to the next.

Open buffers ask with every pause of typing, and whatever a build writes is asked about too: git is
asked only where nothing cheaper decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from qcoder.context.ignore import IGNORE_FILES
from qcoder.context.workspace import Listing, is_left_out, list_files, listed_among, ruled_out


class Membership:
    """Thread-safe: what is remembered is exchanged as a whole or a path at a time."""

    def __init__(self, root: Path, exclude: Sequence[str]) -> None:
        self._root = root
        self._exclude = tuple(exclude)
        self._by_git: frozenset[str] = frozenset()
        self._left_out: dict[str, bool] = {}

    def list_all(self) -> Listing:
        """List the workspace anew; what was remembered is forgotten first."""
        self._left_out = {}
        listing = list_files(self._root, self._exclude)
        self._by_git = listing.by_git
        return listing

    def listed(self, paths: Sequence[str]) -> frozenset[str]:
        """Those of some paths that a listing would have now."""
        return listed_among(self._root, paths, self._exclude, self._by_git)

    def is_left_out(self, path: str) -> bool:
        """Whether a path is ignored; asks git once until it is forgotten."""
        # A listing that begins meanwhile exchanges the table: the old answer stays in the old one.
        known = self._left_out
        if path not in known:
            known[path] = is_left_out(self._root, path, self._exclude, self._by_git)
        return known[path]

    def forget(self, paths: Iterable[str]) -> None:
        """Judge some paths anew when they are asked about: their files have changed."""
        for path in paths:
            self._left_out.pop(path, None)

    def that_matter(self, paths: Sequence[str]) -> list[str]:
        """Paths that no rule rules out, and ignore files that do not lie in what is ignored."""
        # What such a file says of itself does not keep its rules from counting.
        places = [p[: p.rfind("/") + 1] if is_ignore_file(p) else p for p in paths]
        out = ruled_out(self._root, [place for place in dict.fromkeys(places) if place])
        return [path for path, place in zip(paths, places, strict=True) if place not in out]


def is_ignore_file(path: str) -> bool:
    """Whether a path is one of the files whose rules decide about others."""
    return path.rpartition("/")[2] in IGNORE_FILES
