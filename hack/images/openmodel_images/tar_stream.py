"""Writes a tar that depends on names, modes and contents only: the same files, the same bytes.

Knows the tar format and what makes one unreproducible (order, times, owners). Does not know what
the files are for or where the bytes go.
"""

import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Protocol, Self

from openmodel_images.errors import BuildError

BUFFER_BYTES = 1 << 20
END = bytes(2 * tarfile.BLOCKSIZE)


class ByteSink(Protocol):
    """Whatever takes the bytes of a layer: an upload, a hash, a file."""

    def write(self, data: bytes, /) -> int: ...


def files_below(root: Path, keep: Callable[[PurePosixPath], bool] = lambda _: True) -> Iterator[PurePosixPath]:
    """Files and links below `root` that `keep` wants, as relative paths in one fixed order.

    A directory that `keep` refuses is not entered.
    """
    pending = [PurePosixPath()]
    while pending:
        directory = pending.pop()
        subdirectories = []
        with os.scandir(root / directory) as scan:
            for entry in sorted(scan, key=lambda found: found.name):
                path = directory / entry.name
                if not keep(path):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    subdirectories.append(path)
                else:
                    yield path
        pending.extend(reversed(subdirectories))


class TarStream:
    """A tar being written. Everything in it belongs to root and was changed in 1970.

    Parent directories are added when the first file below them is, so none is empty or missing.
    """

    def __init__(self, sink: ByteSink) -> None:
        self._sink = sink
        self._directories: set[PurePosixPath] = {PurePosixPath()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:  # A broken tar stays visibly broken: no end marker.
            self._sink.write(END)

    def add_file(self, source: Path, path: PurePosixPath, *, follow_links: bool = False) -> None:
        """Add one file or symbolic link; of its mode only the executable bit survives."""
        found = source.stat() if follow_links else source.lstat()
        if stat.S_ISLNK(found.st_mode):
            self._add_header(path, tarfile.SYMTYPE, 0o777, link=str(source.readlink()))
        elif stat.S_ISREG(found.st_mode):
            self._add_header(path, tarfile.REGTYPE, _mode(found), size=found.st_size)
            self._add_content(source, found.st_size)
        else:
            raise BuildError(f"{source} is neither a file nor a link to one")

    def _add_header(self, path: PurePosixPath, kind: bytes, mode: int, *, size: int = 0, link: str = "") -> None:
        if path.parent not in self._directories:
            self._directories.add(path.parent)
            self._add_header(path.parent, tarfile.DIRTYPE, 0o755)
        info = tarfile.TarInfo(str(path))  # Owner and time are 0 unless said otherwise.
        info.type, info.mode, info.size, info.linkname = kind, mode, size, link
        # PAX, because a shard may exceed the 8 GiB that the plain header can express.
        self._sink.write(info.tobuf(tarfile.PAX_FORMAT))

    def _add_content(self, source: Path, size: int) -> None:
        written = 0
        with source.open("rb", buffering=0) as content:
            while data := content.read(BUFFER_BYTES):
                written += self._sink.write(data)
        if written != size:
            raise BuildError(f"{source} changed while it was read")
        self._sink.write(bytes(-size % tarfile.BLOCKSIZE))


def _mode(found: os.stat_result) -> int:
    return 0o755 if found.st_mode & stat.S_IXUSR else 0o644
