"""How quantized matrices lie in a checkpoint: a table from `quant_method` to the file that knows.

A format is a function from the `quantization_config` of config.json to a `MatrixReader`; it raises
ValueError for options it does not know. To add one: a file `format_NAME.py` and a row here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from qcoder.model.errors import CheckpointError

if TYPE_CHECKING:  # checkpoints are opened with a format, so they import this file
    from qcoder.model.checkpoint import Checkpoint
    from qcoder.model.matrix import Matrix

MatrixReader: TypeAlias = "Callable[[Checkpoint, str, int, int], Matrix | None]"
"""(checkpoint, name of a layer, out, in) -> its matrix, None if that layer is not quantized."""

FORMATS: dict[str, str] = {
    "none": "qcoder.model.format_qcoder:reader",
    "qcoder-int8": "qcoder.model.format_qcoder:reader",
    "qcoder-fp8": "qcoder.model.format_qcoder:reader",
    "qcoder-int4": "qcoder.model.format_qcoder:reader",
    "fp8": "qcoder.model.format_fp8:reader",
    "awq": "qcoder.model.format_awq:reader",
    "gptq": "qcoder.model.format_gptq:reader",
    "compressed-tensors": "qcoder.model.format_compressed:reader",
    "gguf": "qcoder.model.format_gguf:reader",
}
"""By `quantization_config.quant_method` of config.json; "none" where there is none."""

GGUF_WEIGHTS = "model.gguf"
GGUF_INDEX = "model.gguf.json"


def quantization_settings(data: dict[str, Any]) -> dict[str, Any]:
    """The `quantization_config` of a decoded config.json, {} where there is none."""
    # Older llm-compressor checkpoints call it `compression_config`.
    found = data.get("quantization_config") or data.get("compression_config") or {}
    if not isinstance(found, dict):
        raise ValueError("quantization_config is no object; download config.json again")
    return found


def quant_method(data: dict[str, Any]) -> str:
    """The format that a decoded config.json names; raises ValueError for an unknown one."""
    method = str(quantization_settings(data).get("quant_method", "none"))
    if method not in FORMATS:
        raise ValueError(
            f"quantization {method!r} is not supported by this version; use the unquantized "
            f"checkpoint or one of: {', '.join(name for name in FORMATS if name != 'none')}"
        )
    return method


def matrix_reader(folder: Path) -> MatrixReader:
    """The reader of the format in a folder's config.json; raises `CheckpointError`."""
    path = folder / "config.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        module, _, attribute = FORMATS[quant_method(data)].partition(":")
        reader: MatrixReader = getattr(import_module(module), attribute)(
            quantization_settings(data)
        )
    except (OSError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    return reader
