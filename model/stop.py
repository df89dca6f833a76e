"""When a generation ends: strings, also across tokens, finished lines, cancellation, deadline."""

from __future__ import annotations

import time

from qcoder.model.request import FinishReason, GenerationRequest, StopRules


class StopFilter:
    """Passes text through until a rule fires; holds back what may be the start of a stop string."""

    __slots__ = ("_held", "_max_lines", "_seen_text", "_strings", "lines", "stopped")

    def __init__(self, rules: StopRules) -> None:
        self._strings = tuple(s for s in rules.strings if s)
        self._max_lines = rules.max_lines
        self._held = ""
        self._seen_text = False
        self.lines = 0
        self.stopped = False

    def push(self, text: str) -> str:
        """Text that may be emitted now; sets `stopped` when a rule fired."""
        if self.stopped:
            return ""
        data = self._held + text
        self._held = ""
        found = [(at + len(s), at) for s in self._strings if (at := data.find(s)) >= 0]
        if found:
            # The one that is complete first, as if the text had come letter by letter.
            self.stopped = True
            data = data[: min(found)[1]]
        else:
            keep = max((overlap(data, s) for s in self._strings), default=0)
            self._held = data[len(data) - keep :] if keep else ""
            data = data[: len(data) - keep] if keep else data
        return self._limit_lines(data)

    def flush(self) -> str:
        """What was held back, at the end of the generation."""
        held, self._held = self._held, ""
        return "" if self.stopped else self._limit_lines(held)

    def _limit_lines(self, data: str) -> str:
        if not self._max_lines:
            return data
        for at, char in enumerate(data):
            if char == "\n" and self._seen_text:
                self.lines += 1
                if self.lines >= self._max_lines:
                    self.stopped = True
                    return data[:at]
            elif not char.isspace():
                self._seen_text = True
        return data


def overlap(data: str, stop: str) -> int:
    """Length of the longest end of `data` that is a proper start of `stop`."""
    for size in range(min(len(data), len(stop) - 1), 0, -1):
        if data.endswith(stop[:size]):
            return size
    return 0


def interrupted(request: GenerationRequest) -> FinishReason | None:
    """Why a generation must end now, if it must."""
    if request.cancel.cancelled:
        return FinishReason.CANCELLED
    if request.deadline is not None and time.monotonic() >= request.deadline:
        return FinishReason.DEADLINE
    return None
