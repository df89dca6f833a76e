"""Compile every Triton kernel for three GPUs and print what it needs of them; no GPU is needed.

    python -P benchmarks/kernel_resources.py [--only NAME] [--format text|json]

The launches are recorded from the launchers with tensors without content, in the shapes of the real
checkpoints (`gpu_shapes/launches.py`). A kernel fails that keeps registers in memory, needs more shared memory
than the chip has, or lacks the instructions that it is meant to have.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from qcoder.kernels.gpu.configs import assuming
from qcoder.kernels.gpu.launch import Launch, recorded
from qcoder.model.bench_report import Target, report

sys.path.insert(0, str(Path(__file__).resolve().parent))

from gpu_shapes.launches import LAUNCHES, WANTED

TARGETS = {80: "sm_80", 90: "sm_90", 100: "sm_100"}
SHARED_LIMIT = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}
"""Bytes a block may use (CUDA programming guide, compute capabilities)."""

TYPES = {
    torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.int8: "i8",
    torch.uint8: "u8", torch.int32: "i32", torch.int64: "i64", torch.float8_e4m3fn: "fp8e4nv",
    torch.bool: "i1",
}  # fmt: skip
NO_FP8 = {80}
"""Without float8 conversions (Triton has them from sm_89 on): those kernels are not compiled."""

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


@dataclass(frozen=True, slots=True)
class Resources:
    """What one compiled kernel needs; `stack` are bytes of registers kept in memory."""

    case: str
    kernel: str
    target: str
    registers: int
    stack: int
    shared: int
    instructions: tuple[str, ...]
    problems: tuple[str, ...]


def argument(value: Any) -> tuple[str, bool]:
    """Triton's type of an argument and whether it is a multiple of 16, as Triton finds when it launches."""
    if isinstance(value, torch.Tensor):
        return f"*{TYPES[value.dtype]}", True
    if isinstance(value, float):
        return "fp32", False
    return "i32", value % 16 == 0


def source(launch: Launch) -> ASTSource:
    """The kernel for the arguments of `launch`."""
    names = launch.kernel.arg_names
    signature, constants, attributes = {}, {}, {}
    for index, name in enumerate(names):
        value = launch.constants[name] if name in launch.constants else launch.arguments[index]
        if name in launch.constants or value is None or (type(value) is int and value == 1):
            signature[name], constants[(index,)] = "constexpr", value
            continue
        signature[name], aligned = argument(value)
        if aligned:
            attributes[(index,)] = [["tt.divisibility", 16]]
    return ASTSource(launch.kernel, signature, constants, attributes)


def compiled(case: str, launch: Launch, capability: int) -> Resources:
    """Compile and look at the machine code."""
    options = {
        "num_warps": launch.config.warps,
        "num_stages": launch.config.stages,
        "enable_fp_fusion": True,
    }
    kernel = triton.compile(
        source(launch), target=GPUTarget("cuda", capability, 32), options=options
    )
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        usage = subprocess.run(
            [CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    found = {
        key: int(value) for key, value in re.findall(r"\b(REG|STACK|LOCAL|SHARED):(\d+)", usage)
    }
    stack, shared = max(found["STACK"], found["LOCAL"]), kernel.metadata.shared
    ptx = kernel.asm["ptx"]
    # A case's own kernel is the one with matrix products.
    products = "wgmma" in ptx or "mma.sync" in ptx or "tcgen05" in ptx
    wanted = WANTED.get(case, {}).get(capability, ()) if products else ()
    problems = [f"no {name}" for name in wanted if name not in ptx]
    if stack:
        problems.append(f"{stack} bytes of stack")
    if shared > SHARED_LIMIT[capability]:
        problems.append(f"{shared} bytes of shared memory")
    present = ("wgmma.mma_async", "tcgen05.mma", "mma.sync", "cp.async.bulk.tensor", "cp.async")
    return Resources(
        case, launch.name, TARGETS[capability], found["REG"], stack, shared,
        tuple(name for name in present if name in ptx), tuple(problems),
    )  # fmt: skip


def usable(launch: Launch, capability: int) -> bool:
    """Whether the chip has the types of the arguments."""
    tensors = [a for a in launch.arguments if isinstance(a, torch.Tensor)]
    return capability not in NO_FP8 or all(t.dtype != torch.float8_e4m3fn for t in tensors)


def main() -> int:
    """Compile all; exit 1 with a problem."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--capability", type=int, nargs="*", default=list(TARGETS))
    parser.add_argument("--format", choices=["text", "json"], default="text")
    options = parser.parse_args()
    rows: list[Resources] = []
    for case, run in LAUNCHES.items():
        if options.only not in case:
            continue
        for number in options.capability:
            with assuming(number), recorded() as launches:
                run()
            for launch in launches:
                if usable(launch, number):
                    rows.append(compiled(case, launch, number))
                    if options.format == "text":
                        print_row(rows[-1])
    bad = [row for row in rows if row.problems]
    if options.format == "json":
        figures = {"kernels": len(rows), "kernels with problems": len(bad)}
        targets = [Target("kernels with problems", "<=", 0)]
        notes = [f"Triton {triton.__version__}"]
        print(
            json.dumps({**report(figures, targets, notes=notes), "rows": [asdict(r) for r in rows]})
        )
    else:
        print(
            f"{len(rows)} kernels compiled with Triton {triton.__version__}, {len(bad)} with problems"
        )
    return 1 if bad else 0


def print_row(row: Resources) -> None:
    """One line."""
    print(
        f"{row.case:28} {row.kernel:28} {row.target:6} {row.registers:4} registers "
        f"{row.stack:5} stack {row.shared:7} shared  {' '.join(row.instructions):30} "
        f"{'; '.join(row.problems)}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
