"""The dependency layer: the locked wheels of one image, unpacked where Python finds them.

Knows uv, and that the staging folder costs no disk (hard links into uv's cache) and the tar is
never a file. Does not know which requirements are in the lock, nor why.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from openmodel_images import bytecode, pruning, python_toolchain, tar_stream
from openmodel_images.debian_base import PYTHON_VERSION
from openmodel_images.layers import key_of
from openmodel_images.tar_stream import ByteSink, TarStream, files_below

FOLDER = "/opt/openmodel/lib"
# A change of how the layer is made gives a new key. (Same bytes again: nothing is uploaded twice.)
RECIPE = (__file__, bytecode.__file__, pruning.__file__, tar_stream.__file__)


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Everything that one lock file names."""

    requirements: Path
    name: str = "dependencies"
    repeatable: bool = False

    @property
    def key(self) -> str:
        recipe = [Path(path).read_bytes() for path in RECIPE]
        release, wheels = python_toolchain.python_release(), python_toolchain.wheel_platform()
        return key_of("dependencies", self.requirements.read_bytes(), release, wheels, *recipe)

    def write_to(self, sink: ByteSink) -> None:
        with _staging() as staging:
            self._install(staging)
            kept = list(files_below(staging, pruning.is_needed))
            # Hard links: what is written beside them does not reach uv's cache.
            python_toolchain.compile_to_bytecode(staging, kept, final_folder=FOLDER, output_root=staging)
            with TarStream(sink) as tar:
                for path in files_below(staging, _needed_or_bytecode):
                    tar.add_file(staging / path, PurePosixPath(FOLDER[1:]) / path)

    def _install(self, target: Path) -> None:
        python_toolchain.run(
            [
                python_toolchain.uv(),
                "pip",
                "install",
                f"--target={target}",
                f"--python={python_toolchain.python()}",
                f"--python-version={PYTHON_VERSION}",
                f"--python-platform={python_toolchain.wheel_platform()}",
                f"--requirements={self.requirements}",
                "--require-hashes",
                "--no-deps",
                "--only-binary=:all:",
                "--link-mode=hardlink",
                "--no-config",
            ]
        )


def _needed_or_bytecode(path: PurePosixPath) -> bool:
    # The wheels' own bytecode is gone before: every kept source has been compiled over it.
    if path.name == "__pycache__" or path.suffix == ".pyc":
        return True
    return pruning.is_needed(path)


@contextmanager
def _staging() -> Iterator[Path]:
    """A folder on the file system of uv's cache, where a hard link is possible."""
    cache = Path(python_toolchain.run([python_toolchain.uv(), "cache", "dir"]))
    cache.mkdir(parents=True, exist_ok=True)
    beside = cache.parent if _same_file_system(cache, cache.parent) else cache
    folder = Path(tempfile.mkdtemp(prefix="openmodel-staging-", dir=beside))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _same_file_system(one: Path, other: Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev
