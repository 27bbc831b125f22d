"""How the ranks of an epoch hand each other rows, whatever carries them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class GroupBroken(Exception):
    """A rank of the group has gone: no exchange of this group will come to an end any more."""


class Mailbox(Protocol):
    """One rank's end of an epoch."""

    rank: int
    """Its place in the epoch."""
    ranks: int
    """Of the epoch."""

    def meet(self) -> None:
        """Waits until all ranks of the epoch are there; GroupBroken when it was stopped before."""

    def swap(self, out: Sequence[Tensor], into: Sequence[Tensor]) -> None:
        """Hands `out` to the ranks and fills `into` from them, a tensor for each; this rank's own are left alone.

        All tensors are rows of one width and dtype. GroupBroken when a rank has gone, or when it was stopped.
        """

    def stop(self) -> None:
        """Ends all waiting, now and later; may be called in any thread."""
