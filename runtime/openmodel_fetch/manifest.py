"""The manifest of a checkpoint that was fetched: every file with its size and sha256, and the digest of them all.

It is made from the bytes on the disk, so it says what is there, not what was promised.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

NAME = "openmodel-manifest.json"
_PIECE = 8 << 20


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A file, by its path within the checkpoint."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checkpoint's files."""

    repository: str
    commit: str
    files: tuple[ManifestFile, ...]

    @property
    def digest(self) -> str:
        """`sha256:` of the sorted lines `path size sha256`, each with a newline: what `spec.model.digest` pins."""
        return digest(self.files)

    def write(self, folder: Path) -> None:
        """Writes it into the checkpoint's folder."""
        told = {"repository": self.repository, "commit": self.commit, "digest": self.digest}
        files = [asdict(file) for file in self.files]
        (folder / NAME).write_text(json.dumps({**told, "files": files}, indent=1) + "\n")


def digest(files: Sequence[ManifestFile]) -> str:
    """The digest of these files, in whatever order they are."""
    lines = sorted(f"{file.path} {file.size} {file.sha256}\n" for file in files)
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def digest_of_folder(folder: Path) -> str:
    """Of a checkpoint that somebody else put there: of every file that it has, but for the manifest of a fetch.

    That is the digest of the fetch too, where it fetched all there is. OSError when a file can not be read, or a link
    leads to a folder: what is in it would be mounted, and not be in the digest.
    """
    paths: list[Path] = []
    for where, folders, names in os.walk(folder, onerror=_raise):
        for link in (Path(where) / name for name in folders if (Path(where) / name).is_symlink()):
            raise IsADirectoryError(errno.EISDIR, "a link to a folder", str(link))
        paths += [Path(where) / name for name in names]
    return digest([read_file(folder, str(path.relative_to(folder))) for path in paths if path != folder / NAME])


def read_file(folder: Path, path: str) -> ManifestFile:
    """A file as it lies on the disk, read whole."""
    found, size = hashlib.sha256(), 0
    with (folder / path).open("rb") as file:
        while piece := file.read(_PIECE):
            found.update(piece)
            size += len(piece)
    return ManifestFile(path, size, found.hexdigest())


def _raise(error: OSError) -> None:
    # A new file system's own folder, which is root's.
    if Path(str(error.filename)).name != "lost+found":
        raise error
