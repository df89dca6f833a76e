"""Times on a GPU (events around replays of a graph) or, to rehearse, on the CPU."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from statistics import median

import torch


def seconds(run: Callable[[], object], repeats: int, graph: bool = True) -> float:
    """Median seconds of `run`, captured as a graph first where that is possible."""
    if not torch.cuda.is_available():
        began = time.perf_counter()
        run()
        return time.perf_counter() - began
    run()
    torch.cuda.synchronize()
    replay = _captured(run) if graph else run
    found = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        replay()
        end.record()
        end.synchronize()
        found.append(start.elapsed_time(end) / 1000)
    return median(found)


def _captured(run: Callable[[], object]) -> Callable[[], None]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def copy_bandwidth(device: str) -> float:
    """Bytes a second of a copy from device to device, read and written together."""
    count = (1 << 32) if device == "cuda" else (1 << 22)
    source = torch.empty(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * count / seconds(lambda: target.copy_(source), 20)


def matrix_peak(device: str) -> float:
    """Operations a second of a large bfloat16 product on random data."""
    size = 8192 if device == "cuda" else 256
    kind = torch.bfloat16 if device == "cuda" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    return 2 * size**3 / seconds(lambda: a @ b, 20)


def clocks() -> str:
    """What the driver says of the device now."""
    query = "name,driver_version,clocks.sm,clocks.mem,power.draw,temperature.gpu"
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "no nvidia-smi"
    return done.stdout.strip()
