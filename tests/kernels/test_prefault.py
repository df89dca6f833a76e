"""Pages of a mapped file are there before they are read, as far as there is room."""

import sys
from pathlib import Path

import pytest
import torch

from qcoder.kernels.prefault import STEP_BYTES, prefault

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a call of Linux")


def resident_kb(tensor: torch.Tensor) -> int:
    """Of the mapping that holds a tensor."""
    found = 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if "-" in first and ":" not in first:
            low, high = (int(part, 16) for part in first.split("-"))
            found = low <= tensor.data_ptr() < high
        elif found and line.startswith("Rss:"):
            return int(line.split()[1])
    return 0


def mapped(path: Path, size: int) -> torch.Tensor:
    path.write_bytes(bytes(size))
    return torch.from_file(str(path), size=size, dtype=torch.uint8)


def test_what_was_mapped_ahead_is_resident(tmp_path: Path) -> None:
    tensor = mapped(tmp_path / "weights", 8 << 20)
    assert resident_kb(tensor) < 1024
    thread = prefault([tensor[100:]], lambda: 1 << 40)
    assert thread is not None
    thread.join()
    assert resident_kb(tensor) >= 8192 - 64


def test_it_ends_where_memory_does(tmp_path: Path) -> None:
    tensor = mapped(tmp_path / "weights", 8 << 20)
    thread = prefault([tensor], lambda: STEP_BYTES)
    assert thread is not None
    thread.join()
    assert resident_kb(tensor) < 1024
