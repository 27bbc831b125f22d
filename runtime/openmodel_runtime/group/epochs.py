"""Which epoch a group should step with: one pod decides, from what it sees of all. Pure.

The pod of the lowest number among those of the newest epoch decides. It goes on without a pod when that one is known to
have ended, or when those that are left are the greater part; the others stand still until they see more. So a group
that is cut in two never goes on as two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from openmodel_runtime.group.state import Epoch, Held, Member, PodState, RankState, Seen, View
from openmodel_runtime.parallel.balance import Load, imbalance, rebalanced
from openmodel_runtime.parallel.placement import evolve

MOST_PODS = 8
"""Of a group: three bits of an epoch's number say whose it is."""
_WORTH_MOVING = 0.1
"""Of what the busiest ranks have to do: experts are moved for no smaller gain."""
_Ranks = dict[str, RankState]
_Wanted = list[tuple[PodState, RankState]]


def newest_epoch(view: View) -> Epoch | None:
    """The newest that any live pod knows."""
    known = [pod.epoch for pod in _live(view) if pod.epoch is not None]
    return max(known, key=lambda epoch: epoch.number, default=None)


def settled(view: View) -> bool:
    """True when all members of the newest epoch step with it."""
    epoch = newest_epoch(view)
    return epoch is not None and _settled(epoch, _ranks(view))


def is_isolated(view: View) -> bool:
    """True when the live pods are too few to go on: others of the newest epoch may go on without them."""
    epoch = newest_epoch(view)
    seen = {pod: view[pod].seen if pod in view else Seen.SILENT for pod in range(MOST_PODS)}
    electors = () if epoch is None else _electors(view, epoch)
    live = [pod for pod in electors if seen[pod] is Seen.LIVE]
    silent = [pod for pod in electors if seen[pod] is Seen.SILENT]
    if len(live) != len(silent) or not live:
        return len(live) < len(silent)
    # Of two halves, the one with the lower number goes on.
    return min(silent) < min(live)


def next_epoch(
    view: View, me: int, redundant: int, load: Mapping[int, Load] | None = None, *, waited: bool = False
) -> Epoch | None:
    """The epoch that this pod has the others go over to; None when there is none to make, or another pod decides.

    Args:
        view: what this pod sees.
        me: its number.
        redundant: copies of experts in each layer beside the first.
        load: of the experts of each layer; None: this is no time to move experts for an even load.
        waited: this pod has waited long for the group to begin: the greater part of it does, if it has all experts.
    """
    ranks, current = _ranks(view), newest_epoch(view)
    number = 0 if current is None else current.number
    if current is not None and not any(member.id in ranks for member in current.members):
        # All have gone: whoever comes starts anew.
        current = None
    wanted = candidates(view)
    if me != _leader(view, current) or is_isolated(view) or not wanted:
        return None
    number = (number // MOST_PODS + 1) * MOST_PODS + me
    if current is None:
        size = max(pod.size for pod in _live(view))
        enough = len(wanted) >= size or (waited and 2 * len(wanted) > size)
        members = _members(wanted, redundant) if enough else None
        return None if members is None else Epoch(number, members, ())
    done = _settled(current, ranks)
    stepping = frozenset(current.ids) if done else current.before | frozenset(current.ids)
    broken = not stepping <= {rank.id for rank in ranks.values() if rank.left < current.number}
    if not done and not broken:
        # One change at a time, unless somebody is lost.
        return None
    members = _members(wanted, redundant)
    if members is None:
        return None
    if not broken and _by_id(members) == _by_id(current.members):
        moved = None if load is None else _rebalanced(current, load)
        if moved is None:
            return None
        members = moved
    return Epoch(number, members, _electors(view, current), stepping & ranks.keys(), broken)


def candidates(view: View) -> _Wanted:
    """All ranks that may be in the next epoch, in the order of pods: but those of pods that may leave."""
    pods = [pod for pod in _live(view) if not pod.isolated]
    if any(not pod.draining for pod in pods):
        # As long as all drain, those that have finished stay: the others would have to read their experts.
        pods = [pod for pod in pods if not pod.drained]
    return [(pod, rank) for pod in pods for rank in pod.ranks]


def initial_slots(view: View, me: int, count: int, redundant: int) -> list[Held] | None:
    """What `count` ranks that come to a group that is there are to hold; None when there is no such group.

    Pods that have no member may be coming as well: each leaves the others their part.
    """
    ranks, epoch = _ranks(view), newest_epoch(view)
    members = [] if epoch is None else [member for member in epoch.members if member.id in ranks]
    staying = [member for member in members if not view[member.pod].draining]
    if not staying:
        return None
    size = max(pod.size for pod in _live(view))
    joining = max(count, size - len(staying))
    pods = {member.pod for member in staying}
    ahead = sum(pod not in pods for pod in range(me)) * count
    first = len(staying) + min(ahead, joining - count)
    experts = max(pod.experts for pod in _live(view))
    held = {layer: [member.held[layer] for member in staying] + [()] * joining for layer in staying[0].held}
    rooms = [ranks[member.id].room for member in staying] + [experts] * joining
    placement = evolve(held, experts, redundant, rooms)
    return [placement.of_rank(first + index) for index in range(count)]


def _live(view: View) -> list[PodState]:
    return [view[number] for number in sorted(view) if view[number].seen is Seen.LIVE]


def _ranks(view: View) -> _Ranks:
    return {rank.id: rank for pod in _live(view) for rank in pod.ranks}


def _leader(view: View, current: Epoch | None) -> int | None:
    """The lowest live pod that has a member of the epoch; of all, when there is none."""
    live = {pod.pod for pod in _live(view)}
    members = set[int]() if current is None else {member.pod for member in current.members} & live
    return min(members or live, default=None)


def _electors(view: View, epoch: Epoch) -> tuple[int, ...]:
    """The pods of the group that was the last to step: the greater part of them is the group. One for each rank.

    An epoch is entered by all of its members or by none.
    """
    entered = any(rank.epoch == epoch.number for pod in view.values() for rank in pod.ranks)
    return tuple(member.pod for member in epoch.members) if entered else epoch.electors


def _settled(epoch: Epoch, ranks: _Ranks) -> bool:
    return all(member.id in ranks and ranks[member.id].epoch == epoch.number for member in epoch.members)


def _members(wanted: _Wanted, redundant: int) -> tuple[Member, ...] | None:
    """Who is in the next epoch, and what each holds; None when they are too few."""
    size = max(pod.size for pod, _ in wanted)
    if not any(pod.tensor for pod, _ in wanted):
        return _place(wanted, redundant)
    parts = {rank.place: Member(rank.id, pod.pod, pod.address, {}) for pod, rank in wanted}
    # Without any part there is no product.
    return tuple(parts[place] for place in range(size)) if len(parts) == size else None


def _place(wanted: _Wanted, redundant: int) -> tuple[Member, ...] | None:
    """Who holds what: those of pods that drain give all to the others, if those have room. None: nobody has."""
    experts = max(pod.experts for pod, _ in wanted)
    for holders in ([rank for pod, rank in wanted if not pod.draining], [rank for _, rank in wanted]):
        if not holders:
            continue
        held = {layer: [holder.held[layer] for holder in holders] for layer in holders[0].held}
        placement = evolve(held, experts, redundant, [holder.room for holder in holders])
        if not placement.missing(experts):
            break
    else:
        return None
    slots: dict[str, Held] = {holder.id: placement.of_rank(index) for index, holder in enumerate(holders)}
    nothing: Held = {layer: () for layer in placement.layers}
    return tuple(Member(rank.id, pod.pod, pod.address, slots.get(rank.id, nothing)) for pod, rank in wanted)


def _rebalanced(epoch: Epoch, load: Mapping[int, Load]) -> tuple[Member, ...] | None:
    """The members with experts exchanged for an even load; None when it is not worth it."""
    layers = epoch.layers()
    before = imbalance(layers, load)
    if before - 1 < _WORTH_MOVING or not all(slots for ranks in layers.values() for slots in ranks):
        return None
    after = rebalanced(layers, load)
    if 1 - imbalance(after, load) / before < _WORTH_MOVING:
        return None
    return tuple(
        replace(member, held={layer: ranks[place] for layer, ranks in after.items()})
        for place, member in enumerate(epoch.members)
    )


def _by_id(members: tuple[Member, ...]) -> list[tuple[str, dict[int, frozenset[int]]]]:
    """What makes two epochs the same."""
    return [(member.id, {layer: frozenset(slots) for layer, slots in member.held.items()}) for member in members]
