"""From a hub to a folder of the cache: whole and checked, or not there.

A checkpoint is fetched beside its place and moved there last, by one rename: whoever finds it finds all of it, after a
crash at any byte too. Files that have come are kept, and the next try goes on with the others. Two that fetch the same
wait for each other.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openmodel_fetch.errors import FetchInterrupted, StorageFull
from openmodel_fetch.hub import Hub, HubFile, HubModel, is_small, tensor_files
from openmodel_fetch.manifest import NAME, Manifest, ManifestFile, read_file
from openmodel_fetch.progress import bytes_in, telling

_log = logging.getLogger(__name__)
_FULL = (errno.ENOSPC, errno.EDQUOT)
# What the hub's library notes beside the files, to go on where it was cut off.
_NOTES = ".cache"


def place_of(cache: Path, repository: str, commit: str) -> Path:
    """Where the checkpoint lies in the cache once it is whole."""
    return cache / repository.replace("/", "--") / commit


def download(hub: Hub, repository: str, model: HubModel, cache: Path) -> Path:
    """Fetches the checkpoint, if it is not there, and says where it is.

    Raises:
        FetchInterrupted: the hub failed on the way; StorageFull: there is no room.
    """
    place = place_of(cache, repository, model.commit)
    if _is_whole(place):
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _alone(place.with_name(f".{model.commit}.lock")):
            if not _is_whole(place):
                # A kubelet makes the folder that a pod is to mount.
                shutil.rmtree(place, ignore_errors=True)
                _fetch(hub, repository, model, place)
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(_full("the checkpoint", cache)) from None
        raise
    return place


def _is_whole(place: Path) -> bool:
    """Whether a fetch put it there: the manifest is in it before it is moved."""
    return (place / NAME).is_file()


def _fetch(hub: Hub, repository: str, model: HubModel, place: Path) -> None:
    staging = place.with_name(f".{model.commit}.partial")
    staging.mkdir(exist_ok=True)
    for left in staging.rglob("*.incomplete"):
        # Of a try that was killed; a file that has come in part is of no use to the next.
        left.unlink()
    files = {file.path: file for file in model.files}
    come = [_take(hub, model, file, staging) for file in model.files if is_small(file.path)]
    tensors = [files[path] for path in tensor_files(model, staging)]
    _check_room(tensors, staging)
    total = sum(file.size for file in come) + sum(file.size for file in tensors)
    with telling(staging, total):
        for number, file in enumerate(tensors):
            _log.info("%s: %d of %d files of tensors, %d MiB", file.path, number + 1, len(tensors), file.size >> 20)
            come.append(_take(hub, model, file, staging))
    shutil.rmtree(staging / _NOTES, ignore_errors=True)
    Manifest(repository, model.commit, tuple(come)).write(staging)
    for path in staging.iterdir():
        _sync(path)
    _sync(staging)
    staging.rename(place)
    _sync(place.parent)


def _take(hub: Hub, model: HubModel, file: HubFile, staging: Path) -> ManifestFile:
    """Fetches a file and checks it against the hub's word; a damaged one is dropped, and fetched anew next time."""
    path = hub.fetch(model, file.path, staging)
    come = read_file(staging, file.path)
    if come.size != file.size or file.sha256 not in ("", come.sha256):
        path.unlink()
        raise FetchInterrupted(
            f"{file.path} came damaged: {come.size} bytes, sha256 {come.sha256}; the hub promises {file.size} bytes"
            f"{f', sha256 {file.sha256}' if file.sha256 else ''}"
        )
    return come


def _check_room(tensors: list[HubFile], staging: Path) -> None:
    """Says at once what would show hours later."""
    lacking = sum(file.size for file in tensors) - bytes_in(staging)
    if lacking > shutil.disk_usage(staging).free:
        raise StorageFull(_full(f"{lacking / (1 << 30):.1f} GiB of the checkpoint", staging))


def _full(what: str, folder: Path) -> str:
    free = shutil.disk_usage(folder).free / (1 << 30)
    return (
        f"spec.model.cache: there is no room for {what}, {free:.1f} GiB are free: make the claim larger, or remove "
        "what is no longer used"
    )


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Held by one process at a time; let go when that ends, however it ends."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sync(path: Path) -> None:
    """Has the disk keep it, before anything that says that it is there."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
