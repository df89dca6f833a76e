"""What the model would rather read than what stands there: a likelihood ratio at each slot.

    nats = log p(alternative, what follows | what precedes) - log p(original, what follows | what precedes)

Two stages. One pass over the code says how surprising every token is, and so which slots are worth a
question: surprising lines are more often wrong (Ray et al., arXiv 1506.01159), though most are fine.
Each alternative of those slots is then scored with the code that follows it; what precedes is
computed once. Only a ratio beyond a threshold is a doubt. The thresholds were found on code that
nobody had touched (`benchmarks/review_calibration.py`): a small model doubts rarely, or is never read.

The model never sees comments: what they say, to people or to models, changes nothing here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from qcoder.lsp_server.review_slots import Places, Slot, SlotKind, places_of
from qcoder.model.engine import Engine
from qcoder.model.request import CancelToken
from qcoder.model.scoring import TokenScores, joined

THRESHOLDS: Mapping[SlotKind, float] = {
    "name": 9.0,
    "operator": 5.1,
    "bound": 5.0,
    "arguments": 10.0,
    "order": 7.1,
}
"""Nats from which on a doubt is told."""

FILE_MARK = "<|file_sep|>"
"""Stands before a path where models have read files one behind the other."""

STEP_TOKENS = 256
"""Tokens that the first stage scores at a time, behind as many that only precede them."""

FOLLOWING_TOKENS = 40
"""Of what follows a slot: they show whether an alternative fits what is done next."""

MIN_SHARE = 0.5
"""Of a threshold: what a slot has to surprise by for its alternatives to be tried."""

MAX_STEPS, MAX_SLOTS = 200, 64
"""Steps scored in one document, the first ones, and slots asked about, the most surprising: both bound
the time of a large change."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A slot at bytes [start, end) of a text, what the model would rather read there, and by how much."""

    kind: SlotKind
    start: int
    end: int
    alternative: str
    nats: float


def doubts(
    text: str,
    language: str,
    path: str,
    engine: Engine,
    changed: frozenset[int] | None,
    cancel: CancelToken,
    thresholds: Mapping[SlotKind, float] = THRESHOLDS,
) -> list[Doubt]:
    """Doubts about the changed 0-based lines (None: all), in order; fewer when it is cancelled."""
    places = places_of(text, language)
    code = Code.of(text, places, path, engine)
    wanted = [
        slot
        for slot in places.slots
        if changed is None or not changed.isdisjoint(places.lines(slot))
    ]
    found = []
    for slot in surprising(code, wanted, thresholds, engine, cancel):
        best = best_alternative(code, slot, engine, cancel)
        if best is not None and best[1] >= thresholds[slot.kind]:
            found.append(Doubt(slot.kind, slot.start, slot.end, *best))
    return sorted(found, key=lambda doubt: doubt.start)


@dataclass(frozen=True, slots=True)
class Code:
    """A text without its comments, as tokens behind a header; `ends` are byte offsets in `data`."""

    data: bytes
    header: list[int]
    ids: list[int]
    ends: list[int]
    cuts: tuple[tuple[int, int], ...]

    @staticmethod
    def of(text: str, places: Places, path: str, engine: Engine) -> Code:
        """Cut the comments and encode what is left."""
        data, kept, at = text.encode("utf-8", "replace"), [], 0
        for start, end in places.comments:
            kept.append(data[at:start])
            at = end
        code = b"".join([*kept, data[at:]])
        tokenizer = engine.tokenizer
        ids = tokenizer.encode(code.decode("utf-8", "replace"))
        ends = list(accumulate(len(tokenizer.token_bytes(one)) for one in ids))
        mark = tokenizer.special.get(FILE_MARK)
        header = [*([mark] if mark is not None else []), *tokenizer.encode(path + "\n")]
        # A path that leaves no room is cut from the front: the file's own name says most.
        return Code(
            code, header[-max(1, engine.info.max_context // 4) :], ids, ends, places.comments
        )

    def offset(self, at: int) -> int:
        """Where a byte of the text lies in `data`."""
        return at - sum(min(end, at) - start for start, end in self.cuts if start < at)

    def token_at(self, offset: int) -> int:
        """Index of the token that holds a byte of `data`."""
        return bisect_right(self.ends, offset)

    def start_of(self, token: int) -> int:
        """First byte of a token."""
        return self.ends[token - 1] if token else 0

    def before(self, token: int, room: int) -> list[int]:
        """Header and what precedes a token, from a place that neighbouring tokens share."""
        first = max(0, (token // STEP_TOKENS - 1) * STEP_TOKENS)
        while token - first > max(room, 1):
            first += max(1, STEP_TOKENS // 4)
        return [*self.header, *self.ids[min(first, token) : token]]


def surprising(
    code: Code,
    slots: Sequence[Slot],
    thresholds: Mapping[SlotKind, float],
    engine: Engine,
    cancel: CancelToken,
) -> list[Slot]:
    """The slots that surprise the model, in order."""
    room = engine.info.max_context - len(code.header) - 1
    step = max(1, min(STEP_TOKENS, room // 2))
    nats: dict[int, float] = {}
    spans = [
        range(code.token_at(code.offset(s.start)), 1 + code.token_at(code.offset(s.end) - 1))
        for s in slots
    ]
    for number in sorted({token // step for span in spans for token in span})[:MAX_STEPS]:
        if cancel.cancelled:
            return []
        begin, end = number * step, min((number + 1) * step, len(code.ids))
        before = [*code.header, *code.ids[max(0, begin - step) : begin]]
        scores = scored(engine, before, code.ids[begin:end], cancel)
        nats.update(zip(range(begin, end), (-value for value in scores), strict=False))
    ranked = sorted(
        (
            (sum(nats.get(token, 0.0) for token in span), slot)
            for span, slot in zip(spans, slots, strict=True)
        ),
        key=lambda pair: -pair[0],
    )
    chosen = [slot for nat, slot in ranked[:MAX_SLOTS] if nat >= MIN_SHARE * thresholds[slot.kind]]
    return sorted(chosen, key=lambda slot: slot.start)


def best_alternative(
    code: Code, slot: Slot, engine: Engine, cancel: CancelToken
) -> tuple[str, float] | None:
    """The likeliest alternative and how many nats likelier than what is there; None when cancelled."""
    start, end = code.offset(slot.start), code.offset(slot.end)
    line = code.data.rfind(b"\n", 0, start) + 1
    first, last = code.token_at(line), code.token_at(end - 1)
    last = min(last + FOLLOWING_TOKENS, len(code.ids) - 1)
    head, tail = code.data[code.start_of(first) : start], code.data[end : code.ends[last]]
    encode = engine.tokenizer.encode
    original, *others = (
        encode((head + middle + tail).decode("utf-8", "replace"))
        for middle in (code.data[start:end], *(a.encode() for a in slot.alternatives))
    )
    shared = min(common(original, other) for other in others)
    longest = max(map(len, (original, *others)))
    before = code.before(first, engine.info.max_context - len(code.header) - longest - 1)
    if len(before) + longest > engine.info.max_context:
        return None  # a line longer than the model reads
    before += original[:shared]
    totals = []
    for ids in (original, *others):
        scores = scored(engine, before, ids[shared:], cancel)
        if cancel.cancelled:
            return None
        totals.append(sum(scores))
    ratios = [total - totals[0] for total in totals[1:]]
    best = max(range(len(ratios)), key=ratios.__getitem__)
    return slot.alternatives[best], ratios[best]


def scored(
    engine: Engine, before: list[int], ids: Sequence[int], cancel: CancelToken
) -> list[float]:
    """Log-probabilities of `ids`; fewer when cancelled."""

    def pieces() -> Iterator[TokenScores]:
        for piece in engine.score([*before, *ids], len(before)):
            yield piece
            if cancel.cancelled:
                return

    return [float(value) for value in joined(pieces()).logprobs]


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """Number of equal leading ids."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(a), len(b)))
