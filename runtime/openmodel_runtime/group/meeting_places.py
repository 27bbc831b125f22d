"""Where the ranks of an epoch meet: a file in shared memory when one pod has all, else a port of the first's pod."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from openmodel_runtime.config import GroupMember
from openmodel_runtime.group.state import Epoch

_FIRST_PORT = 29500
_PORTS = 100


def _shared_memory() -> str | None:
    """Where files are memory; None for where temporary files are, which is slower to begin with and no worse then."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class MeetingPlaces:
    """Those of the epochs that this pod is told of."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="openmodel-group-", dir=_shared_memory())

    def of(self, epoch: Epoch, rank: int) -> GroupMember:
        """Of one rank."""
        first, size = epoch.members[0], len(epoch.members)
        if all(member.pod == first.pod for member in epoch.members):
            store = str(Path(self._folder.name) / f"epoch-{epoch.number}")
            return GroupMember(rank=rank, size=size, epoch=epoch.number, store=store)
        store = f"{first.address}:{_FIRST_PORT + epoch.number % _PORTS}"
        address = epoch.members[rank].address
        return GroupMember(rank=rank, size=size, epoch=epoch.number, store=store, address=address)

    def close(self) -> None:
        """Nobody meets any more."""
        self._folder.cleanup()
