"""The GPU kernels' meaning and invariance where there is no GPU: the same tests, in Triton's interpreter.

The interpreter computes with numpy, in numpy's order. So equal bits here prove what the kernels read, mask and tile,
and that a row's tiles come in one order; what the hardware does inside a tile, the same tests prove on a GPU.
Triton decides when a kernel is decorated whether it is interpreted, so this takes a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .backends import INTERPRETED, TRITON

HERE = Path(__file__).parent
MODULES = [*sorted(HERE.glob("test_meaning*.py")), HERE / "test_invariance.py", HERE / "test_triton_tiles.py"]


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter's process")
def test_in_the_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", TRITON, *map(str, MODULES)]
    run = subprocess.run(
        command,
        cwd=HERE.parents[2],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout
