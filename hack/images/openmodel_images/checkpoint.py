"""A checkpoint folder as layers of an image that is mounted as a volume.

Knows sizes and names; the files lie at the image's root. Does not open a weight or read a
config.json.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from openmodel_images.errors import BuildError
from openmodel_images.layers import key_of
from openmodel_images.tar_stream import ByteSink, TarStream, files_below

# A file of this size has a layer of its own, which a new version of the checkpoint shares as long
# as that shard did not change. All smaller ones go together.
LARGE_BYTES = 64 << 20
# An overlay mount takes about 127 layers.
MOST_LAYERS = 100
# Bookkeeping of download tools, not of the checkpoint.
SKIPPED = (".git", ".cache")


@dataclass(frozen=True, slots=True)
class CheckpointLayer:
    """Some files of one folder."""

    folder: Path
    files: tuple[PurePosixPath, ...]
    repeatable: bool = True

    @property
    def name(self) -> str:
        more = f" and {len(self.files) - 1} more" if len(self.files) > 1 else ""
        return f"{self.files[0]}{more}"

    @property
    def key(self) -> str:
        """From what the file system says: hashing hundreds of gigabytes is what it saves."""
        parts: list[str] = []
        for path in self.files:
            found = (self.folder / path).stat()
            times = f"{found.st_mtime_ns} {found.st_ctime_ns}"
            parts += [str(path), f"{found.st_dev} {found.st_ino} {found.st_size} {times}"]
        return key_of("checkpoint", *parts)

    def write_to(self, sink: ByteSink) -> None:
        with TarStream(sink) as tar:
            for path in self.files:
                # Download tools keep links to a blob folder; the image needs the content.
                tar.add_file(self.folder / path, path, follow_links=True)


def checkpoint_layers(folder: Path) -> list[CheckpointLayer]:
    """The layers of a checkpoint, small files first; the same folder gives the same layers."""
    if not folder.is_dir():
        raise BuildError(f"{folder} is not a folder")
    small: list[PurePosixPath] = []
    large: list[PurePosixPath] = []
    for path in files_below(folder, lambda found: found.name not in SKIPPED):
        size = (folder / path).stat().st_size
        (large if size >= LARGE_BYTES else small).append(path)
    if not small and not large:
        raise BuildError(f"{folder} is empty")
    groups = [tuple(small)] if small else []
    groups += _spread(large, MOST_LAYERS - len(groups))
    return [CheckpointLayer(folder, group) for group in groups]


def _spread(paths: list[PurePosixPath], most: int) -> Iterator[tuple[PurePosixPath, ...]]:
    """At most `most` groups of neighbours, all of one size but the last."""
    each = -(-len(paths) // most)
    for first in range(0, len(paths), each or 1):
        yield tuple(paths[first : first + each])
