"""The NEON set computes what the plain one does: built for ARM and run there, or in an emulator."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

IS_ARM = platform.machine() in ("aarch64", "arm64")
COMPILER = shutil.which("g++" if IS_ARM else "aarch64-linux-gnu-g++")
EMULATOR = shutil.which("env" if IS_ARM else "qemu-aarch64")


@pytest.mark.slow
@pytest.mark.skipif(
    not (COMPILER and EMULATOR),
    reason="no compiler for ARM, or no emulator (g++-aarch64-linux-gnu, qemu-user)",
)
def test_neon_equals_the_plain_versions(tmp_path: Path) -> None:
    program = tmp_path / "neon_check"
    source = Path(__file__).with_name("neon_check.cpp")
    static = [] if IS_ARM else ["-static"]
    build = [COMPILER, "-O1", "-std=c++17", "-pthread", *static, "-o", program, source]
    subprocess.run([str(word) for word in build], check=True)
    done = subprocess.run(
        [str(EMULATOR), str(program)], check=False, capture_output=True, text=True
    )
    if done.returncode == 2:
        pytest.skip(done.stdout.strip())
    assert (done.returncode, done.stdout) == (0, "")
