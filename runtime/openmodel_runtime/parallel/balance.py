"""How evenly experts' ranks are loaded, and how to make it more even with few experts moved. Pure.

All ranks wait for the busiest one in every layer: what a step costs is the sum of its loads.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence

from openmodel_runtime.parallel.placement import Slots

Load = Sequence[float]
"""How much each expert of a layer has to do, in any unit."""

_SMALLEST_STEP = 0.02
"""Of a rank's mean load: what is gained by less is not worth reading two experts."""
_Held = list[list[int]]


def imbalance(layers: Mapping[int, Sequence[Slots]], load: Mapping[int, Load]) -> float:
    """How much more the busiest ranks have to do than the mean, over all layers: 1 is even."""
    busiest = sum(max(rank_loads(slots, load[layer])) for layer, slots in layers.items())
    mean = sum(sum(load[layer]) / len(slots) for layer, slots in layers.items())
    return busiest / mean if mean else 1.0


def rank_loads(slots: Sequence[Slots], load: Load) -> list[float]:
    """What each rank has to do in a layer, where the copies of an expert share its load."""
    shares = _shares(slots, load)
    return [sum(shares[expert] for expert in rank) for rank in slots]


def rebalanced(layers: Mapping[int, Sequence[Slots]], load: Mapping[int, Load]) -> dict[int, tuple[Slots, ...]]:
    """The same number of slots on each rank, and experts exchanged so that the busiest ranks have less to do.

    First the further copies go to the experts that have most to do, then the busiest rank exchanges an expert with
    another one as long as that makes it less busy.
    """
    return {layer: _rebalanced(slots, load[layer]) for layer, slots in layers.items()}


def _rebalanced(slots: Sequence[Slots], load: Load) -> tuple[Slots, ...]:
    held = [list(rank) for rank in slots]
    _move_copies(held, load)
    shares = _shares(held, load)
    least = _SMALLEST_STEP * sum(load) / len(held)
    for _ in range(sum(map(len, held))):
        if not _exchange(held, shares, least):
            break
    return tuple(map(tuple, held))


def _shares(slots: Sequence[Sequence[int]], load: Load) -> list[float]:
    copies = _count(slots, len(load))
    return [of_all / max(1, count) for of_all, count in zip(load, copies, strict=True)]


def _count(slots: Sequence[Sequence[int]], experts: int) -> list[int]:
    counts = [0] * experts
    for rank in slots:
        for expert in rank:
            counts[expert] += 1
    return counts


def _wanted(load: Load, ranks: int, redundant: int) -> list[int]:
    """Copies of each expert: one, and further ones where a copy has most to do; at most one a rank."""
    copies = [1] * len(load)
    for _ in range(redundant):
        growing = (expert for expert in range(len(load)) if copies[expert] < ranks)
        copies[max(growing, key=lambda expert: load[expert] / copies[expert])] += 1
    return copies


def _move_copies(held: _Held, load: Load) -> None:
    """Puts copies of what has most to do in the place of copies of what has less."""
    copies = _count(held, len(load))
    wanted = _wanted(load, len(held), sum(copies) - len(load))
    short = [expert for expert, count in enumerate(copies) for _ in range(wanted[expert] - count)]
    for expert in sorted(short, key=lambda expert: -load[expert]):
        spare = [(rank, other) for rank in held for other in rank if copies[other] > wanted[other]]
        if (place := next(_places(held, expert, spare), None)) is not None:
            rank, given, holder, dropped = place
            rank[rank.index(given)] = expert
            if holder is not rank:
                holder[holder.index(dropped)] = given
            copies[dropped] -= 1
            copies[expert] += 1


def _places(
    held: _Held, expert: int, spare: Sequence[tuple[list[int], int]]
) -> Iterator[tuple[list[int], int, list[int], int]]:
    """A rank that takes the expert, and what it gives up: a spare copy, or another that takes a spare one's place."""
    takers = [rank for rank in held if expert not in rank]
    for rank in takers:
        yield from ((rank, dropped, holder, dropped) for holder, dropped in spare if holder is rank)
    for rank in takers:
        for holder, dropped in spare:
            yield from ((rank, given, holder, dropped) for given in rank if given not in holder)


def _exchange(held: _Held, shares: Sequence[float], least: float) -> bool:
    """The busiest rank gives an expert for one that has less to do; False when nothing is gained by it."""
    busy = [sum(shares[expert] for expert in rank) for rank in held]
    order = sorted(range(len(held)), key=lambda rank: busy[rank])
    heaviest = order[-1]
    for lighter in order[:-1]:
        # Half of the gap is the best that can be moved: then both have the same.
        half = (busy[heaviest] - busy[lighter]) / 2
        pairs = _pairs(held[heaviest], held[lighter], shares, half)
        give, take = min(pairs, key=lambda pair: abs(shares[pair[0]] - shares[pair[1]] - half), default=(0, 0))
        if half - abs(shares[give] - shares[take] - half) > least:
            held[heaviest][held[heaviest].index(give)] = take
            held[lighter][held[lighter].index(take)] = give
            return True
    return False


def _pairs(
    heavy: Sequence[int], light: Sequence[int], shares: Sequence[float], wanted: float
) -> Iterator[tuple[int, int]]:
    """For each expert that the heavy rank may give, those two of the light one whose difference is next to `wanted`."""
    takes = sorted((expert for expert in light if expert not in heavy), key=lambda expert: shares[expert])
    for give in heavy:
        if give not in light:
            place = bisect(takes, shares[give] - wanted, key=lambda expert: shares[expert])
            yield from ((give, take) for take in takes[max(0, place - 1) : place + 1])
