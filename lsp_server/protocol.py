"""Messages beyond the standard protocol; `editors/vscode/src/protocol.ts` mirrors this file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

STATUS = "qcoder/status"
"""Server to client: what the server is doing."""

PING = "qcoder/ping"
"""Client to server: answered with null at once; measures the round trip."""

COUNTS = "qcoder/counts"
"""Client to server: how the completions of this session were answered; names to numbers."""

EXPLAIN_LAST = "qcoder/explainLast"
"""Client to server, null or a document's `{uri}`: why the latest request was answered as it was."""

STATISTICS = "qcoder/statistics"
"""Client to server, null or `{days}`: the figures of `qcoder stats`."""

MODELS = "qcoder/models"
"""Client to server: `{current, models}`, the name in use and all that `model.name` takes."""

COMMAND_DOCSTRING = "qcoder.generateDocstring"
COMMAND_REVIEW = "qcoder.reviewFile"
COMMAND_REVIEW_CHANGES = "qcoder.reviewSinceCommit"
COMMAND_REINDEX = "qcoder.reindex"
COMMAND_RESTART = "qcoder.restartEngine"
COMMAND_EXPLAIN_RULE = "qcoder.explainRule"
COMMAND_EXPLAIN_CODE = "qcoder.explainCode"
COMMAND_TEST = "qcoder.writeTest"

StatusKind = Literal["Normal", "Busy", "Warning", "Error", "Inactive"]


@dataclass(frozen=True, slots=True)
class Status:
    """Payload of `qcoder/status`; `reason` names what the server is busy with or lacks."""

    kind: StatusKind
    message: str = ""
    reason: str = ""
