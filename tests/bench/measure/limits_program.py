"""Program: measures what this machine can do at most, `python -m bench.measure.limits_program THREADS`, as JSON.

Knows torch and a C compiler. The bandwidth is that of large reads, the rate that of large products.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

_SOURCE = Path(__file__).with_name("read_bandwidth.c")
# Rows, inner and outer size of the product; large enough that no call overhead shows, small enough for the caches.
_ROWS, _INNER, _OUTER = 1024, 4096, 4096
_PASSES = 15
_FALLBACK_VALUES = 1 << 27


def main() -> None:
    """Measures and prints."""
    torch.set_num_threads(int(sys.argv[1]))
    read, how_read = _read_bandwidth()
    multiply, how_multiply = _matrix_rate()
    how = {"read": how_read, "bf16": how_multiply}
    print(json.dumps({"read_gb_per_s": read, "bf16_gflop_per_s": round(multiply, 1), "how": how}))


def _read_bandwidth() -> tuple[float, str]:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is not None:
        with tempfile.TemporaryDirectory() as scratch:
            program = Path(scratch) / "read_bandwidth"
            build = [compiler, "-O3", "-march=native", "-fopenmp", str(_SOURCE), "-o", str(program)]
            if subprocess.run(build, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
                run = subprocess.run([program], check=True, capture_output=True, text=True)
                return float(run.stdout.split()[0]), _SOURCE.name
    values = torch.ones(_FALLBACK_VALUES)
    return round(values.nbytes / _seconds(values.sum) / 1e9, 2), "torch.sum: there is no C compiler"


def _matrix_rate() -> tuple[float, str]:
    rows = torch.randn(_ROWS, _INNER, dtype=torch.bfloat16)
    weight = torch.randn(_OUTER, _INNER, dtype=torch.bfloat16)
    ways: dict[str, Callable[[], object]] = {"F.linear": lambda: torch.nn.functional.linear(rows, weight)}
    with torch.no_grad():
        if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            packed = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
            ways["oneDNN, packed weight"] = lambda: torch.ops.mkldnn._linear_pointwise(
                rows, packed, None, "none", [], ""
            )
        rates = {name: 2 * _ROWS * _INNER * _OUTER / _seconds(way) / 1e9 for name, way in ways.items()}
    best = max(rates, key=lambda name: rates[name])
    return rates[best], best


def _seconds(work: Callable[[], object]) -> float:
    """Median of several runs, after one that warms up."""
    times = []
    for _ in range(_PASSES + 1):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


if __name__ == "__main__":
    main()
