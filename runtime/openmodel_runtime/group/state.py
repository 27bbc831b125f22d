"""What pods of a group know of each other. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from openmodel_runtime.parallel.placement import Slots

Held = Mapping[int, Slots]
"""The experts that a rank holds, by layer."""


@dataclass(frozen=True, slots=True)
class RankState:
    """A rank that has loaded."""

    id: str
    """Differs from one life of a rank to the next."""
    epoch: int
    """With which it steps; 0 for none."""
    held: Held
    room: int = 0
    """Experts of a layer that it has memory for."""
    place: int = 0
    """Which part of each matrix it has, where those are shared."""
    left: int = 0
    """The last epoch that it has left, with its requests, or not come to: its members did not come together, or
    what was left of them could not hold all experts."""


@dataclass(frozen=True, slots=True)
class Member:
    """A rank's part in an epoch."""

    id: str
    pod: int
    address: str
    """Of its pod."""
    held: Held


@dataclass(frozen=True, slots=True)
class Epoch:
    """Ranks that step together, and which experts each holds."""

    number: int
    """Of two epochs the larger one counts."""
    members: tuple[Member, ...]
    """In the order of ranks."""
    electors: tuple[int, ...] = ()
    """Pods of the group that stepped before, one for each rank."""
    before: frozenset[str] = frozenset()
    """Ranks that stepped together before: all that are left of them leave before this one is entered."""
    broken: bool = False
    """Some of those are lost: the others do not wait for them."""

    @property
    def ids(self) -> list[str]:
        """Of the members."""
        return [member.id for member in self.members]

    def rank_of(self, rank_id: str) -> int | None:
        """Place of a rank; None when it is no member."""
        ids = self.ids
        return ids.index(rank_id) if rank_id in ids else None

    def places(self) -> list[tuple[str, dict[int, int]]]:
        """Members, and how many experts of each layer they hold: what an exchange of experts leaves as it is."""
        return [(member.id, {layer: len(slots) for layer, slots in member.held.items()}) for member in self.members]

    def layers(self) -> dict[int, tuple[Slots, ...]]:
        """Of each routed layer, the experts of each member."""
        return {layer: tuple(member.held[layer] for member in self.members) for layer in self.members[0].held}


class Seen(Enum):
    """What is known of a pod's life."""

    LIVE = "live"
    CLOSED = "closed"
    """Its machine said that its front has ended."""
    SILENT = "silent"
    """It may have ended, hang, or be out of reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodState:
    """What a pod tells the others."""

    pod: int
    address: str
    ranks: tuple[RankState, ...] = ()
    """In the order of their places in the pod."""
    size: int = 1
    """Ranks that a group starts with."""
    tensor: bool = False
    """The ranks share each matrix; else they share the experts."""
    redundant: int = 0
    """Copies of experts in each layer beside the first; the pod that decides goes by its own number."""
    draining: bool = False
    """It takes no new requests, and hands its experts over."""
    drained: bool = False
    """It drains, and its requests are finished."""
    isolated: bool = False
    """It sees too few of its group to go on."""
    experts: int = 0
    """Of each routed layer; 0 as long as none of its ranks has loaded."""
    epoch: Epoch | None = None
    """The newest that it knows."""
    seen: Seen = field(default=Seen.LIVE, compare=False)


View = Mapping[int, PodState]
"""Pods by number, as one of them sees them; itself among them."""
