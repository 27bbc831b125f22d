"""Compiles the extension beside this file; a script, and a module of the wheel's build hook.

Runs when the development environment, the wheel or the image is made, never while serving. Does nothing when the
extension is as new as its sources. Needs torch, a C++ compiler and ninja; imports nothing of this package.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_SOURCES = _HERE / "csrc"
# -ffp-contract is GCC's default, written down because the last bits depend on it.
_FLAGS = [
    "-O3",
    "-std=c++20",
    "-ffp-contract=fast",
    "-fvisibility=hidden",
    "-Wno-psabi",
    "-Wno-ignored-attributes",
    "-g0",
]
_NAME = "_cpu"


def extension_path() -> Path:
    """Where the extension of this Python lies."""
    return _HERE / f"{_NAME}{sysconfig.get_config_var('EXT_SUFFIX')}"


def build() -> Path:
    """Compiles what is stale; returns the extension's path."""
    inputs = [Path(__file__), *sorted(_SOURCES.iterdir())]
    torch_version = importlib.metadata.version("torch").encode()
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in inputs) + torch_version).hexdigest()
    stamp, target = _HERE / f"{_NAME}.sha256", extension_path()
    if target.exists() and stamp.exists() and stamp.read_text() == digest:
        return target
    from torch.utils import cpp_extension

    with tempfile.TemporaryDirectory(prefix="openmodel-cpu-") as folder:
        cpp_extension.load(
            _NAME,
            [str(path) for path in inputs if path.suffix == ".cpp"],
            extra_cflags=_FLAGS,
            build_directory=folder,
            is_python_module=False,
        )
        fresh = target.with_suffix(".new")
        shutil.copyfile(Path(folder) / f"{_NAME}.so", fresh)
        fresh.replace(target)
    stamp.write_text(digest)
    return target


if __name__ == "__main__":
    sys.stdout.write(f"{build()}\n")
