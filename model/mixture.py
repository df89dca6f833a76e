"""The mixture of network and copy model.

    P(token) = w_net P_net(token) + w_local P_local(token) + w_table P_table(token)

`local` copies from the prompt and what was generated, `table` from the open file and the workspace.
The weights come from a gate, a tiny perceptron over how long the matches are, how sure each source
is and whether they agree; it is fitted by `training/gate.py` on text that the network never saw and
ships beside the weights as `mixture.safetensors`. A checkpoint without that file runs unmixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from qcoder.model.engine import ModelInfo
from qcoder.model.ngram import (
    LONGEST_DRAFT,
    MAX_LENGTH,
    SORTED_LENGTH,
    CopyDistribution,
    Draft,
    LocalHistory,
    Match,
    SuffixTable,
    distribution,
)

GATE_FILE = "mixture.safetensors"
FEATURES_PER_SOURCE = 7
FEATURES = 2 + 2 * FEATURES_PER_SOURCE + 1
MIN_PRESENT = 3
"""Fewer tokens than this say nothing about the place, unless the table ends with them."""

SOURCES = 3  # network, local, table

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class BlendResult:
    """Natural log-probabilities [vocab], and the part of each probability that was copied."""

    logprobs: FloatArray
    ngram_share: FloatArray | None


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """Perceptron with one hidden layer: features -> weights of the three sources."""

    hidden_weight: FloatArray  # [hidden, FEATURES]
    hidden_bias: FloatArray  # [hidden]
    out_weight: FloatArray  # [SOURCES, hidden]
    out_bias: FloatArray  # [SOURCES]

    def weights(self, features: FloatArray, present: Sequence[bool]) -> FloatArray:
        """Softmax over the sources that are present; [SOURCES], sums to 1."""
        hidden = np.tanh(self.hidden_weight @ features + self.hidden_bias)
        scores = self.out_weight @ hidden + self.out_bias
        scores = np.where(present, scores, -np.inf)
        scores = np.exp(scores - scores.max())
        weights: FloatArray = (scores / scores.sum()).astype(np.float32)
        return weights


def source_features(copy: CopyDistribution | None, network: FloatArray) -> list[float]:
    """What the gate sees of one copy source; `network`: probabilities [vocab]."""
    if copy is None:
        return [0.0] * FEATURES_PER_SOURCE
    top = copy.top
    return [
        1.0,
        min(copy.longest, SORTED_LENGTH) / SORTED_LENGTH,
        float(np.log2(copy.longest + 1)) / 6,
        float(np.log1p(copy.support)) / 4,
        float(copy.probabilities[top]),
        float(network[copy.ids[top]]),
        float((copy.probabilities * network[copy.ids]).sum()),
    ]


def gate_features(
    network: FloatArray, local: CopyDistribution | None, table: CopyDistribution | None
) -> FloatArray:
    """All inputs of the gate: [FEATURES]."""
    entropy = -float((network * np.log(network + 1e-12)).sum())
    agree = (
        local is not None
        and table is not None
        and bool(local.ids[local.top] == table.ids[table.top])
    )
    return np.array(
        [
            entropy / 9,
            float(network.max()),
            *source_features(local, network),
            *source_features(table, network),
            float(agree),
        ],
        dtype=np.float32,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """A gate that belongs to one checkpoint."""

    gate: Gate

    @staticmethod
    def load(folder: Path) -> Mixture | None:
        """The mixture of a checkpoint folder, or None when it ships none."""
        path = folder / GATE_FILE
        if not path.exists():
            return None
        tensors = load_file(path)
        return Mixture(
            Gate(
                tensors["hidden_weight"],
                tensors["hidden_bias"],
                tensors["out_weight"],
                tensors["out_bias"],
            )
        )

    @staticmethod
    def load_for(info: ModelInfo) -> Mixture | None:
        """The mixture of a loaded model."""
        return Mixture.load(Path(info.path))

    def start(
        self,
        prompt_ids: Sequence[int],
        tables: tuple[SuffixTable, ...],
        present: tuple[tuple[int, ...], ...] = (),
    ) -> MixtureState:
        """Begin a generation after `prompt_ids`; `present` as in `Prompt`."""
        return MixtureState(self.gate, prompt_ids, tables, present)


class CopyState:
    """What one running generation could copy: from its own text, and from tables of others."""

    __slots__ = ("_history", "_present", "_tables")

    def __init__(
        self,
        prompt_ids: Sequence[int],
        tables: tuple[SuffixTable, ...],
        present: tuple[tuple[int, ...], ...] = (),
    ) -> None:
        self._history, self._tables = LocalHistory(prompt_ids), tables
        self._present = [np.array(ids, dtype=np.int32) for ids in present if ids]

    def push(self, token: int) -> None:
        """The token that was emitted."""
        self._history.push(token)

    def draft(self) -> Draft:
        """What followed the longest match, here or in the tables."""
        recent = self._history.ids[-MAX_LENGTH:]
        drafts = [self._history.draft(LONGEST_DRAFT)]
        for table in self._tables:
            found = next(
                (m for m in table.matches(recent, limit=4) if not self._is_present(table, m)), None
            )
            if found is not None:
                ids = table.ids[found.position : found.position + LONGEST_DRAFT]
                drafts.append(Draft(tuple(ids.tolist()), found.length))
        return max(drafts, key=lambda draft: draft.matched)

    def copies(self) -> tuple[CopyDistribution | None, CopyDistribution | None]:
        """What local history and tables predict next."""
        found: list[Match] = []
        recent = self._history.ids[-MAX_LENGTH:]
        for table in self._tables:
            found += [m for m in table.matches(recent) if not self._is_present(table, m)]
        return distribution(self._history.matches()), distribution(found)

    def _is_present(self, table: SuffixTable, match: Match) -> bool:
        """Whether a match is the cursor's own place in an earlier state of the document.

        The open file and the workspace on disk hold the unfinished line as well; the longest match
        of all is that line itself, and it says that nothing comes next.
        """
        for ids in self._present:
            size = len(ids) if len(ids) >= MIN_PRESENT else MIN_PRESENT
            if np.array_equal(table.ids[match.position : match.position + size], ids):
                return True
        return False


class MixtureState(CopyState):
    """One running generation of a network that is mixed with copies."""

    __slots__ = ("_gate",)

    def __init__(
        self,
        gate: Gate,
        prompt_ids: Sequence[int],
        tables: tuple[SuffixTable, ...],
        present: tuple[tuple[int, ...], ...] = (),
    ) -> None:
        super().__init__(prompt_ids, tables, present)
        self._gate = gate

    def blend(self, network_logprobs: FloatArray) -> BlendResult:
        """Mix the network's log-probabilities [vocab] with the copies."""
        local, table = self.copies()
        if local is None and table is None:
            return BlendResult(network_logprobs, None)
        network = np.exp(network_logprobs)
        weights = self._gate.weights(
            gate_features(network, local, table), (True, local is not None, table is not None)
        )
        copied = np.zeros_like(network)
        for copy, weight in ((local, weights[1]), (table, weights[2])):
            if copy is not None:
                copied[copy.ids] += weight * copy.probabilities
        mixed = weights[0] * network + copied
        return BlendResult(np.log(mixed + 1e-12), copied / (mixed + 1e-12))
