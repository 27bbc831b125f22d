"""Which rank holds which experts: a table, and how it is made.

A group may have any size, and an expert any number of copies on different ranks. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Slots = tuple[int, ...]
"""The experts that a rank holds of a layer, by slot."""
Load = Sequence[float]
"""How much each expert of a layer has to do, in any unit."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Every rank's slots, layer by layer."""

    ranks: int
    layers: Mapping[int, tuple[Slots, ...]]
    """Of each routed layer, the slots of each rank."""

    def of_rank(self, rank: int) -> dict[int, Slots]:
        """The experts that a rank holds, by layer."""
        return {layer: ranks[rank] for layer, ranks in self.layers.items()}

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


def plan_placement(
    layers: Iterable[int], experts: int, ranks: int, redundant: int = 0, load: Mapping[int, Load] | None = None
) -> Placement:
    """Places experts so that ranks have equally much to do.

    Args:
        layers: the routed layers.
        experts: of each layer.
        ranks: of the group; at most as many as there are experts.
        redundant: further copies a layer, of those that have most to do.
        load: of each layer, what was measured; without it all experts count the same.
    """
    if not 1 <= ranks <= experts:
        raise ValueError(f"{experts} experts can be shared by 1 to {experts} ranks, not by {ranks}")
    if not 0 <= redundant <= experts * (ranks - 1):
        raise ValueError(f"{redundant} copies of {experts} experts do not fit on {ranks} ranks, one of each a rank")
    return Placement(
        ranks,
        {
            layer: _balance([1.0] * experts if load is None else load[layer], ranks, redundant, even=load is None)
            for layer in layers
        },
    )


def _balance(load: Load, ranks: int, redundant: int, *, even: bool) -> tuple[Slots, ...]:
    """The heaviest first, each to the rank with least to do (Graham, 1969: at most a third above the best).

    No rank has more than one slot more than another, so that none runs out of memory for the others' sake.
    """
    copies = _copies(load, ranks, redundant)
    if even and not redundant:
        # Neighbours stay together: their bytes are neighbours in the checkpoint's files.
        return tuple(tuple(range(len(load) * rank // ranks, len(load) * (rank + 1) // ranks)) for rank in range(ranks))
    shares = {expert: load[expert] / count for expert, count in enumerate(copies)}
    total = sum(copies)
    room = [total * (rank + 1) // ranks - total * rank // ranks for rank in range(ranks)]
    held: list[list[int]] = [[] for _ in range(ranks)]
    weight = [0.0] * ranks
    # Of an expert with several copies all come at once, while there are ranks without one; then the heaviest.
    for expert in sorted(shares, key=lambda expert: (-copies[expert], -shares[expert], expert)):
        for _ in range(copies[expert]):
            free = [rank for rank in range(ranks) if len(held[rank]) < room[rank] and expert not in held[rank]]
            if not free:
                # Room is left on ranks only that have it already: one copy fewer.
                continue
            rank = min(free, key=lambda rank: (weight[rank], rank))
            held[rank].append(expert)
            weight[rank] += shares[expert]
    return tuple(tuple(sorted(slots)) for slots in held)


def _copies(load: Load, ranks: int, redundant: int) -> list[int]:
    """One of each, and further ones where a copy has most to do; at most one a rank."""
    copies = [1] * len(load)
    for _ in range(redundant):
        growing = (expert for expert in range(len(load)) if copies[expert] < ranks)
        copies[max(growing, key=lambda expert: (load[expert] / copies[expert], -expert))] += 1
    return copies


def evolve(held: Mapping[int, Sequence[Slots]], experts: int, redundant: int = 0) -> Placement:
    """The placement of a group whose members hold something already, with as little to load as can be.

    Args:
        held: of each routed layer, what each member of the new group holds now; () for one that holds nothing.
        experts: of each layer.
        redundant: further copies a layer.
    """
    ranks = len(next(iter(held.values())))
    total = min(experts + redundant, experts * ranks)
    return Placement(ranks, {layer: _evolved(slots, experts, total) for layer, slots in held.items()})


def _evolved(held: Sequence[Slots], experts: int, total: int) -> tuple[Slots, ...]:
    """What is missing goes to the emptiest, what is too much comes from the fullest; then those give to these."""
    slots = [list(rank) for rank in held]
    copies = [sum(expert in rank for rank in slots) for expert in range(experts)]
    for expert in sorted(range(experts), key=lambda expert: copies[expert]):
        wanted = not copies[expert] or sum(copies) < total
        free = [rank for rank in slots if expert not in rank]
        if wanted and free:
            min(free, key=len).append(expert)
            copies[expert] += 1
    while sum(copies) > total:
        rank, expert = max(
            ((rank, expert) for rank in slots for expert in rank if copies[expert] > 1),
            key=lambda copy: (len(copy[0]), copies[copy[1]]),
        )
        rank.remove(expert)
        copies[expert] -= 1
    while len(fullest := max(slots, key=len)) - len(emptiest := min(slots, key=len)) > 1:
        given = next(expert for expert in reversed(fullest) if expert not in emptiest)
        fullest.remove(given)
        emptiest.append(given)
    return tuple(map(tuple, slots))
