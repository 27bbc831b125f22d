"""The test models' checkpoints, for benchmarks that need no cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.peers.catalog import ROOT


def build_models() -> Path:
    """The folder of all test models, made where they are not there."""
    build = [sys.executable, str(ROOT / "hack" / "models" / "build.py")]
    return Path(subprocess.run(build, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
