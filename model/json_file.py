"""JSON files of a checkpoint: read whole, checked, without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qcoder.model.errors import CheckpointError


def read_json(path: Path, when_missing: str) -> dict[str, Any]:
    """A JSON object from a file of a checkpoint; raises `CheckpointError`."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(when_missing) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); download it again") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: holds no JSON object; download it again")
    return data


def id_list(value: Any) -> tuple[int, ...]:
    """Token ids that may be given as one number, a list, or not at all."""
    if value is None:
        return ()
    return tuple(int(v) for v in value) if isinstance(value, list) else (int(value),)
