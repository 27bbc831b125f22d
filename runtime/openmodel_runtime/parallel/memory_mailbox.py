"""Ranks of one pod hand each other rows through memory that they share (decision 13 has the figures).

A wait for another rank ends when the rows are there, or when somebody in this process says that they will not come:
the other side of a piece of memory can not break by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from openmodel_kernels.cpu import _cpu
from openmodel_runtime.config import GroupMember
from openmodel_runtime.parallel.mailbox import GroupBroken


class MemoryMailbox:
    """One rank's end of the memory of a group; see `Mailbox`."""

    def __init__(self, member: GroupMember) -> None:
        """Opens the memory, which is zeros until somebody writes to it."""
        self.rank = member.rank
        self.ranks = member.size
        size = _cpu.mailbox_bytes(member.size)
        # Made of the right size and zeros by whoever comes first.
        self._memory = torch.from_file(member.store, shared=True, size=size, dtype=torch.uint8)
        self._stop = torch.zeros(1, dtype=torch.int32)
        self._path = Path(member.store)

    def meet(self) -> None:
        """Waits until all ranks have opened the memory."""
        if not _cpu.meet(self._memory, self.ranks, self.rank, self._stop):
            raise GroupBroken("not all ranks came")
        # Nobody else is to open it.
        self._path.unlink(missing_ok=True)

    def swap(self, out: Sequence[Tensor], into: Sequence[Tensor]) -> None:
        """Through a box for each pair and direction."""
        if not _cpu.swap(self._memory, self.rank, list(out), list(into), self._stop):
            raise GroupBroken("a rank has gone")

    def stop(self) -> None:
        """Ends all waiting."""
        self._stop.fill_(1)
