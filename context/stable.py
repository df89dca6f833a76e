"""What a prompt shows whatever the cursor does: the part whose computed state outlives keystrokes.

It is chosen without the cursor, from imports, folders, tests, history and open files, into a room
that depends on the budget alone, and its order is its rank. So typing changes nothing in it; an
edit of an import, a saved file or a branch switch does, and then what stands before stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from qcoder.context.imports import path_distance
from qcoder.context.languages import language_of
from qcoder.context.lookup import Lookup
from qcoder.context.neighbours import FILE_SIGNALS
from qcoder.context.rank import ScoredSymbol, file_scores, rank_symbols
from qcoder.context.site import NOTHING_WANTED, Site, family

_SHARES = ((3000, 0.0), (16_384, 0.2), (65_536, 0.35))
_SHARE_BEYOND = 0.75
_WHOLE_FILES_FROM = 20_000
_SIGNATURE_SHARE = 0.4
_MAX_SIGNATURES = 4000


def stable_room(budget_tokens: int) -> tuple[int, int]:
    """Tokens for signatures and for whole files of the stable part, by the budget alone."""
    share = next((s for limit, s in _SHARES if budget_tokens <= limit), _SHARE_BEYOND)
    room = int(budget_tokens * share)
    if room < _WHOLE_FILES_FROM:
        return room, 0
    signatures = min(int(room * _SIGNATURE_SHARE), 12 * _MAX_SIGNATURES)
    return signatures, room - signatures


def without_cursor(site: Site) -> Site:
    """The site as it is for every cursor of the file."""
    return replace(site, wanted=NOTHING_WANTED, near={}, similar=frozenset())


def stable_symbols(lookup: Lookup, enough: int, weights: Mapping[str, float]) -> list[ScoredSymbol]:
    """Definitions of other files that this file is likely to need somewhere, best first."""
    site = without_cursor(lookup.site)
    found = rank_symbols(lookup.at(site), site, (), enough, weights, fill=False)
    return [scored for scored in found if scored.record.path != site.file.path]


def file_order(
    lookup: Lookup, weights: Mapping[str, float], everything: bool
) -> Iterator[tuple[str, str]]:
    """Other files by how much this one has to do with them, with the reason.

    With `everything`, all further files follow, those of the language and nearby first.
    """
    site = without_cursor(lookup.site)
    scores = file_scores(lookup.at(site), (), weights)
    for path in sorted(scores, key=lambda path: (-sum(scores[path].values()), path)):
        yield path, max(FILE_SIGNALS, key=lambda name: scores[path].get(name, 0.0))
    if not everything:
        return
    own, language = site.file.path, family(site.file.facts.language)

    def distance(path: str) -> tuple[bool, int, str]:
        return family(language_of(path)) != language, path_distance(path, own), path

    for path in sorted(lookup.index.paths(), key=distance):
        if path not in scores and path != own:
            yield path, "workspace"
