"""What this machine can do at most: memory read and bfloat16 matrix products, with all threads.

A program of its own measures, so that torch and its threads are gone before anything else is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable

from bench.measure.cpu import wait_until_quiet
from bench.measure.roofline import Limits

_QUIET_SECONDS = 30.0


def measure_limits(threads: int) -> tuple[Limits, dict[str, str]]:
    """The limits, and how each was found."""
    wait_until_quiet(_QUIET_SECONDS)
    run = subprocess.run(
        [sys.executable, "-m", "bench.measure.limits_program", str(threads)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    found = json.loads(run.stdout)
    return Limits(found["read_gb_per_s"], found["bf16_gflop_per_s"]), found["how"]


def highest(found: Iterable[Limits]) -> Limits:
    """The most of each."""
    each = list(found)
    return Limits(max(item.read_gb_per_s for item in each), max(item.bf16_gflop_per_s for item in each))
