"""The code layer: this repository's packages, and their licence.

Knows where a package's source is and that it is small enough to be read on every run. Does not
know what the packages do.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from openmodel_images import bytecode, python_toolchain, tar_stream
from openmodel_images.layers import key_of
from openmodel_images.tar_stream import ByteSink, TarStream, files_below

FOLDER = "/opt/openmodel/app"
LICENCES = ("LICENSE", "NOTICE")
RECIPE = (__file__, bytecode.__file__, tar_stream.__file__)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as it was when the build began, so that an edit meanwhile cannot split the layer."""

    path: PurePosixPath
    content: bytes
    executable: bool


@dataclass(frozen=True, slots=True)
class Application:
    """Source files, by their path in the folder."""

    files: tuple[SourceFile, ...]
    name: str = "code"
    repeatable: bool = False  # Compiling is what takes the time; the bytes are few.

    @property
    def key(self) -> str:
        parts: list[str | bytes] = [python_toolchain.python_release()]
        parts += [Path(path).read_bytes() for path in RECIPE]
        for file in self.files:
            parts += [str(file.path), str(file.executable), file.content]
        return key_of("code", *parts)

    def write_to(self, sink: ByteSink) -> None:
        with tempfile.TemporaryDirectory(prefix="openmodel-code-") as folder:
            staging = Path(folder)
            for file in self.files:
                target = staging / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.content)
                target.chmod(0o755 if file.executable else 0o644)
            python_toolchain.compile_to_bytecode(
                staging,
                [file.path for file in self.files],
                final_folder=FOLDER,
                output_root=staging,
            )
            with TarStream(sink) as tar:
                for path in files_below(staging):
                    tar.add_file(staging / path, PurePosixPath(FOLDER[1:]) / path)


def read_application(repository: Path, packages: Sequence[str]) -> Application:
    """The code layer of these packages (folders of the repository), and the licence."""
    found = [repository / name for name in LICENCES if (repository / name).is_file()]
    files = [_read(path, PurePosixPath(path.name)) for path in found]
    for package in packages:
        root = repository / package
        inside = files_below(root, _is_source)
        files += [_read(root / path, PurePosixPath(root.name) / path) for path in inside]
    return Application(tuple(files))


def _read(source: Path, path: PurePosixPath) -> SourceFile:
    return SourceFile(path, source.read_bytes(), bool(source.stat().st_mode & 0o100))


def _is_source(path: PurePosixPath) -> bool:
    """What a program reads: not bytecode, nor what a compiled module was made from."""
    left_out = path.name in ("__pycache__", "csrc") or path.suffix in (".pyc", ".pyi", ".sha256")
    return not left_out and not path.name.startswith(".")
