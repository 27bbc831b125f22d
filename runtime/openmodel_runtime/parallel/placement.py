"""Which rank holds which experts: a table, and how it is made.

A group may have any size, and an expert any number of copies on different ranks. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Slots = tuple[int, ...]
"""The experts that a rank holds of a layer, by slot."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Every rank's slots, layer by layer."""

    ranks: int
    layers: Mapping[int, tuple[Slots, ...]]
    """Of each routed layer, the slots of each rank."""

    def of_rank(self, rank: int) -> dict[int, Slots]:
        """The experts that a rank holds, by layer."""
        return {layer: ranks[rank] for layer, ranks in self.layers.items()}

    def missing(self, experts: int) -> int:
        """How many experts of a layer nobody holds, at the most."""
        return max(experts - len({expert for slots in ranks for expert in slots}) for ranks in self.layers.values())

    def routes(self, layer: int, experts: int, rank: int) -> tuple[list[int], list[int]]:
        """Where tokens of a rank find each expert: the rank that computes it, and the slot there.

        Its own copy if it has one; else the copies take turns by the asking rank, so that no copy serves all.
        """
        found: list[list[tuple[int, int]]] = [[] for _ in range(experts)]
        for holder, slots in enumerate(self.layers[layer]):
            for slot, expert in enumerate(slots):
                found[expert].append((holder, slot))
        missing = [expert for expert, places in enumerate(found) if not places]
        if missing:
            raise ValueError(f"layer {layer}: nobody holds experts {missing}")
        chosen = [_nearest(places, rank) for places in found]
        return [holder for holder, _ in chosen], [slot for _, slot in chosen]


def _nearest(places: list[tuple[int, int]], rank: int) -> tuple[int, int]:
    own = [place for place in places if place[0] == rank]
    return own[0] if own else places[rank % len(places)]


def plan_placement(layers: Iterable[int], experts: int, ranks: int, redundant: int = 0) -> Placement:
    """The placement of a group that begins: neighbours stay together, for their bytes are neighbours in the files.

    Args:
        layers: the routed layers.
        experts: of each layer.
        ranks: of the group; at most as many as there are experts.
        redundant: further copies a layer.
    """
    if not 1 <= ranks <= experts:
        raise ValueError(f"{experts} experts can be shared by 1 to {experts} ranks, not by {ranks}")
    if not 0 <= redundant <= experts * (ranks - 1):
        raise ValueError(f"{redundant} copies of {experts} experts do not fit on {ranks} ranks, one of each a rank")
    even = [tuple(range(experts * rank // ranks, experts * (rank + 1) // ranks)) for rank in range(ranks)]
    return evolve(dict.fromkeys(layers, even), experts, redundant)


def evolve(
    held: Mapping[int, Sequence[Slots]], experts: int, redundant: int = 0, rooms: Sequence[int] | None = None
) -> Placement:
    """The placement of a group whose members hold something already, with as little to load as can be.

    Args:
        held: of each routed layer, what each member of the new group holds now; () for one that holds nothing.
        experts: of each layer.
        redundant: further copies a layer, as far as there is room.
        rooms: slots of a layer that each member has room for, experts of them by default; more experts than have room
            are missing.
    """
    ranks = len(next(iter(held.values())))
    rooms = [experts] * ranks if rooms is None else [min(room, experts) for room in rooms]
    total = min(experts + redundant, sum(rooms))
    return Placement(ranks, {layer: _evolved(slots, experts, total, rooms) for layer, slots in held.items()})


def _evolved(held: Sequence[Slots], experts: int, total: int, rooms: Sequence[int]) -> tuple[Slots, ...]:
    """What is missing goes to the emptiest, what is too much comes from the fullest; then those give to these."""
    slots = [list(rank) for rank in held]
    copies = [sum(expert in rank for rank in slots) for expert in range(experts)]

    def add(expert: int) -> bool:
        free = [rank for rank, room in zip(slots, rooms, strict=True) if expert not in rank and len(rank) < room]
        if free:
            min(free, key=len).append(expert)
            copies[expert] += 1
        return bool(free)

    def drop() -> bool:
        spare = [(rank, expert) for rank in slots for expert in rank if copies[expert] > 1]
        if spare:
            rank, expert = max(spare, key=lambda copy: (len(copy[0]), copies[copy[1]]))
            rank.remove(expert)
            copies[expert] -= 1
        return bool(spare)

    for missing in [expert for expert in range(experts) if not copies[expert]]:
        while not add(missing) and drop():
            pass
    while sum(copies) < total and any(add(expert) for expert in sorted(range(experts), key=copies.__getitem__)):
        pass
    while sum(copies) > total and drop():
        pass
    _even_out(slots, rooms)
    return tuple(map(tuple, slots))


def _even_out(slots: list[list[int]], rooms: Sequence[int]) -> None:
    """The fullest give to the emptiest that have room; of those that are as empty, to one that has less of theirs.

    Ranks that come one after another then take from all of those that are there, and leave them even each time.
    """
    given: Counter[tuple[int, int]] = Counter()
    while True:
        fullest = max(range(len(slots)), key=lambda rank: len(slots[rank]))
        open_to_more = [rank for rank, room in enumerate(rooms) if len(slots[rank]) < room]
        emptiest = min(open_to_more, key=lambda rank: (len(slots[rank]), given[fullest, rank]), default=fullest)
        if len(slots[fullest]) - len(slots[emptiest]) <= 1:
            return
        expert = next(expert for expert in reversed(slots[fullest]) if expert not in slots[emptiest])
        slots[fullest].remove(expert)
        slots[emptiest].append(expert)
        given[fullest, emptiest] += 1
