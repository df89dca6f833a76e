"""Memory is known before a model is loaded, and one that does not fit says what would."""

from pathlib import Path
from typing import Any

import pytest
import torch

from qcoder.model import memory
from qcoder.model.config import load_config
from qcoder.model.errors import CheckpointError
from qcoder.model.local import LocalEngine
from qcoder.model.memory import available_bytes, check_memory, estimate


def test_the_estimate_is_what_is_loaded(tiny: Any, tiny_int8: Any) -> None:
    for one in (tiny, tiny_int8):
        need = estimate(one.folder, load_config(one.folder), torch.float32, 100)
        assert need.weights_bytes == LocalEngine.load(str(one.folder)).stats().weight_bytes
        assert need.cache_bytes == 2 * 3 * 2 * 16 * 4 * 100


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (memory.OVERHEAD_BYTES + 160_000, "--quantize int8` makes it 0.4 GB"),
        (memory.OVERHEAD_BYTES + 80_000, "--quantize int4` makes it 0.4 GB"),
        (memory.OVERHEAD_BYTES, "no quantization makes it fit; use a smaller model"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_with_what_would(
    free: int, expected: str, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(tiny.folder)
    monkeypatch.setattr(memory, "CHECKED_FROM_BYTES", 0)
    monkeypatch.setattr(memory, "available_bytes", lambda: free)
    with pytest.raises(CheckpointError, match=r"needs 0\.4 GB, 0\.4 free; ") as error:
        check_memory(tiny.folder, config, torch.float32, 1)
    assert expected in str(error.value)
    monkeypatch.setenv(memory.VARIABLE, "1")
    check_memory(tiny.folder, config, torch.float32, 1)


def test_a_container_has_what_its_limit_leaves(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    5000 kB\n")
    assert available_bytes(tmp_path, tmp_path / "none") == 5_120_000
    for name, text in {"max": "4000000", "current": "3000000", "stat": "inactive_file 7\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert available_bytes(tmp_path, tmp_path) == 1_000_007
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes(tmp_path, tmp_path) == 5_120_000
