"""The Python and the uv that prepare what the image's Python will run.

Knows how to find them and how to ask for wheels that fit the base layer. Does not know which
packages are wanted.
"""

import functools
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from openmodel_images.debian_base import GLIBC_VERSION, PYTHON_VERSION
from openmodel_images.errors import BuildError, need_tool

BYTECODE = Path(__file__).with_name("bytecode.py")


def run(command: list[str], *, stdin: str = "", environment: dict[str, str] | None = None) -> str:
    """Run a tool; its stdout, or a `BuildError` with what it complained about."""
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        env=os.environ | (environment or {}),
        check=False,
    )
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command[:3])} failed:\n{done.stderr.strip()}")
    return done.stdout.strip()


def uv() -> str:
    return need_tool("uv", "pip install uv")


@functools.cache
def python() -> str:
    """An interpreter of the base layer's version: bytecode of another one would be ignored."""
    try:
        return run([uv(), "python", "find", "--system", "--no-python-downloads", PYTHON_VERSION])
    except BuildError as error:
        remedy = f"apt-get install python{PYTHON_VERSION}, or: uv python install {PYTHON_VERSION}"
        raise BuildError(f"no Python {PYTHON_VERSION} on this machine: {remedy}") from error


@functools.cache
def python_release() -> str:
    """The full version: two releases may compile the same source differently."""
    return run([python(), "-c", "import platform; print(platform.python_version())"])


def wheel_platform() -> str:
    """The platform of wheels that run on the base layer's C library, in uv's words."""
    return f"{platform.machine()}-manylinux_{GLIBC_VERSION}"


def compile_to_bytecode(
    source_root: Path, paths: Iterable[PurePosixPath], *, final_folder: str, output_root: Path
) -> None:
    """Compile the sources among `paths`, into `__pycache__` folders below `output_root`."""
    sources = "\n".join(str(path) for path in paths if path.suffix == ".py")
    command = [python(), "-P", str(BYTECODE), str(source_root), final_folder, str(output_root)]
    run(command, stdin=sources, environment={"PYTHONHASHSEED": "0"})
