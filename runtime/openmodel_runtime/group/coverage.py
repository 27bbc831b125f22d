"""Whether a group can hold all experts, and what it could lose and still hold them. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from openmodel_runtime.group.epochs import candidates
from openmodel_runtime.group.state import View


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What the memory of a group's ranks has room for."""

    ranks: int = 0
    """That have loaded, and will stay."""
    experts: int = 0
    """Of each routed layer."""
    missing: int = 0
    """Of those, how many nobody has room for."""
    smallest: int = 0
    """Ranks that the group needs at least, those of the lowest pods; more than it has, when it lacks some."""
    survives_process_loss: int = 0
    """So many ranks may be lost at once, whichever they are: the others have room for their experts."""
    survives_pod_loss: int = 0
    """So many pods may be lost at once."""


def is_lacking(view: View) -> bool:
    """True when the ranks that are in reach can not go on without others."""
    there = candidates(view)
    if any(pod.tensor for pod, _ in there):
        return len({rank.place for _, rank in there}) < max(pod.size for pod, _ in there)
    return coverage(view).missing > 0


def coverage(view: View) -> Coverage:
    """Of the ranks that are in reach."""
    there = candidates(view)
    if not there:
        return Coverage()
    experts = max(pod.experts for pod, _ in there)
    # Those that drain hold what they hold until they end; nothing new is counted on them for.
    staying = [(pod, rank) for pod, rank in there if not pod.draining] or there
    rooms = [min(rank.room, experts) for _, rank in staying]
    by_pod: dict[int, int] = defaultdict(int)
    for (pod, _), room in zip(staying, rooms, strict=True):
        by_pod[pod.pod] += room
    return Coverage(
        ranks=len(staying),
        experts=experts,
        missing=max(0, experts - sum(min(rank.room, experts) for _, rank in there)),
        smallest=1 + sum(1 for held in accumulate(rooms) if held < experts),
        survives_process_loss=_may_be_lost(rooms, experts),
        survives_pod_loss=_may_be_lost(by_pod.values(), experts),
    )


def _may_be_lost(rooms: Iterable[int], experts: int) -> int:
    """How many of these may be lost, the largest first."""
    held = list(accumulate(sorted(rooms)))
    return sum(1 for left in held[:-1] if left >= experts)
