"""A group of pods as each of them sees it, for tests of what follows from that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from openmodel_runtime.group.coverage import coverage
from openmodel_runtime.group.epochs import newest_epoch, next_epoch
from openmodel_runtime.group.state import Epoch, Held, PodState, RankState, Seen
from openmodel_runtime.parallel.placement import plan_placement

EXPERTS = 8
LAYERS = (0, 2)
Pods = dict[int, PodState]


def held(rank: int, size: int) -> Held:
    return plan_placement(LAYERS, EXPERTS, size).of_rank(rank)


def pod(number: int, *, size: int = 3, held_by: int | None = None, room: int = EXPERTS, **more: object) -> PodState:
    """A pod of one rank that has loaded its part of a group of `size`."""
    rank = RankState(f"rank-{number}", 0, held(number if held_by is None else held_by, size), room)
    state = PodState(pod=number, address=f"10.0.0.{number}", ranks=(rank,), size=size, experts=EXPERTS)
    return replace(state, **more)  # type: ignore[arg-type]  # a field's name and value


def go_over(pods: Pods, epoch: Epoch, members: Iterable[int] | None = None) -> Pods:
    """All live pods know of the epoch; these (all, by default) have entered it."""
    entering = set(pods if members is None else members)
    after = {}
    for number, state in pods.items():
        if state.seen is Seen.LIVE:
            places = {member.id: member.held for member in epoch.members}
            ranks = tuple(
                replace(rank, epoch=epoch.number, held=places[rank.id])
                if rank.id in places and number in entering
                else rank
                for rank in state.ranks
            )
            state = replace(state, ranks=ranks, epoch=epoch)
        after[number] = state
    return after


def made(pods: Pods, redundant: int = 0) -> Epoch:
    """The one epoch that some pod makes."""
    epochs = [epoch for number in pods if (epoch := next_epoch(pods, number, redundant)) is not None]
    assert len(epochs) == 1
    return epochs[0]


def none_made(pods: Pods) -> bool:
    return all(next_epoch(pods, number, 0) is None for number in pods)


def running(size: int = 3, room: int = EXPERTS) -> Pods:
    """A group that serves."""
    pods = {number: pod(number, size=size, room=room) for number in range(size)}
    return go_over(pods, made(pods))


def covered(epoch: Epoch) -> bool:
    return all(
        {expert for slots in ranks for expert in slots} == set(range(EXPERTS)) for ranks in epoch.layers().values()
    )


def newest_number(pods: Pods) -> int:
    epoch = newest_epoch(pods)
    return 0 if epoch is None else epoch.number


def wait_if_lacking(pods: Pods) -> Pods:
    """Where no memory is left for all experts, ranks leave their group and wait."""
    if not newest_number(pods) or not coverage(pods).missing:
        return pods
    return {number: left(state, newest_number(pods)) for number, state in pods.items()}


def left(state: PodState, epoch: int) -> PodState:
    return replace(state, ranks=tuple(replace(rank, epoch=0, left=epoch) for rank in state.ranks))
