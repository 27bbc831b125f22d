"""Layers: how one is made at most once, and remembered.

Knows that a layer has a key (a hash of everything it is made from) and a digest (a hash of what
came out), and keeps the first with the second. Does not know what any layer holds.
"""

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Protocol

from openmodel_images.registry import Blob, Registry
from openmodel_images.tar_stream import ByteSink


class LayerSource(Protocol):
    """A layer that can be made."""

    @property
    def name(self) -> str:
        """For the progress line."""

    @property
    def key(self) -> str:
        """A hash of everything the layer is made from."""

    @property
    def repeatable(self) -> bool:
        """Cheap to write twice: its digest is found first, and is sent only if it is missing."""

    def write_to(self, sink: ByteSink) -> None:
        """Write the layer's tar."""


def key_of(*parts: str | bytes) -> str:
    """A hash of parts that cannot run into one another."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "big") + data)
    return total.hexdigest()


class Records:
    """What earlier runs made: key -> blob, and the repositories that were given it.

    A record is a hint. Whether the registry still has the blob is asked every time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, key: str) -> tuple[Blob, list[str]] | None:
        try:
            found = json.loads(self._path(key).read_text())
            blob = Blob(digest=found["digest"], size=found["size"])
            return blob, [str(name) for name in found["repositories"]]
        except (FileNotFoundError, ValueError, KeyError):  # A torn record is no record.
            return None

    def save(self, key: str, blob: Blob, repository: str) -> None:
        earlier = self.load(key)
        names = {repository}
        if earlier is not None and earlier[0] == blob:
            if repository in earlier[1]:
                return
            names.update(earlier[1])
        # The tar is not compressed, so what unpacking yields has the blob's own digest.
        record = {
            "digest": blob.digest,
            "diff_id": blob.digest,
            "size": blob.size,
            "repositories": sorted(names),
        }
        write_atomically(self._path(key), json.dumps(record, indent=1) + "\n")

    def origins(self, digest: str) -> list[str]:
        """The repositories that were given this blob, whatever it was made from."""
        found: set[str] = set()
        for path in self._folder.glob("*.json"):
            record = self.load(path.stem)
            if record is not None and record[0].digest == digest:
                found.update(record[1])
        return sorted(found)

    def forget(self, key: str) -> None:
        """Make the layer anew next time, though its inputs look the same."""
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"


class _Measure:
    """A sink that keeps only the digest and the size."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes, /) -> int:
        self._hash.update(data)
        self._size += len(data)
        return len(data)

    def blob(self) -> Blob:
        return Blob(digest=f"sha256:{self._hash.hexdigest()}", size=self._size)


def ensure_layer(registry: Registry, repository: str, source: LayerSource, records: Records) -> Blob:
    """The layer's blob, which `repository` has when this returns; made only when it must be."""
    key = source.key
    known = records.load(key)
    if known is not None and _is_there(registry, repository, *known):
        records.save(key, known[0], repository)
        return known[0]
    started = time.monotonic()
    blob = _make(registry, repository, source, records)
    if source.key == key:  # Else its inputs changed meanwhile: a record would be wrong.
        records.save(key, blob, repository)
    seconds = time.monotonic() - started
    say(f"{repository}: {source.name}: {blob.size / 1e6:,.1f} MB in {seconds:.1f} s")
    return blob


def _is_there(registry: Registry, repository: str, blob: Blob, origins: list[str]) -> bool:
    if registry.has_blob(repository, blob.digest):
        return True
    others = (origin for origin in origins if origin != repository)
    return any(registry.mount_blob(repository, blob.digest, origin) for origin in others)


def _make(registry: Registry, repository: str, source: LayerSource, records: Records) -> Blob:
    if source.repeatable:
        measure = _Measure()
        source.write_to(measure)
        blob = measure.blob()
        if _is_there(registry, repository, blob, records.origins(blob.digest)):
            return blob
    with registry.upload(repository) as upload:
        source.write_to(upload)
        return upload.commit()


def write_atomically(path: Path, text: str) -> None:
    """Readers see the old text or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    draft.write_text(text)
    draft.replace(path)


def say(line: str) -> None:
    """Progress goes to stderr: stdout carries the references alone."""
    print(line, file=sys.stderr, flush=True)
