"""Pod states as messages of the peer protocol, and back."""

from __future__ import annotations

from collections.abc import Iterable

from openmodel_protos import peer_pb2 as pb
from openmodel_runtime.group.state import Epoch, Held, Member, PodState, RankState


def to_report(state: PodState, version: str) -> pb.PodReport:
    """The whole state."""
    return pb.PodReport(
        state=pb.PodState(
            pod=state.pod,
            version=version,
            address=state.address,
            ranks=[
                pb.RankState(
                    id=rank.id,
                    epoch=rank.epoch,
                    slots=_slots(rank.held),
                    room=rank.room,
                    place=rank.place,
                    left=rank.left,
                )
                for rank in state.ranks
            ],
            size=state.size,
            tensor=state.tensor,
            draining=state.draining,
            drained=state.drained,
            isolated=state.isolated,
            experts=state.experts,
            epoch=None if state.epoch is None else _epoch(state.epoch),
        )
    )


def from_message(message: pb.PodState) -> PodState:
    """The state that a pod told."""
    return PodState(
        pod=message.pod,
        address=message.address,
        ranks=tuple(
            RankState(rank.id, rank.epoch, _held(rank.slots), rank.room, rank.place, rank.left)
            for rank in message.ranks
        ),
        size=message.size,
        tensor=message.tensor,
        draining=message.draining,
        drained=message.drained,
        isolated=message.isolated,
        experts=message.experts,
        epoch=_from_epoch(message.epoch) if message.HasField("epoch") else None,
    )


def _epoch(epoch: Epoch) -> pb.Epoch:
    return pb.Epoch(
        number=epoch.number,
        members=[
            pb.Member(id=member.id, pod=member.pod, address=member.address, slots=_slots(member.held))
            for member in epoch.members
        ],
        electors=epoch.electors,
        before=sorted(epoch.before),
        broken=epoch.broken,
    )


def _from_epoch(message: pb.Epoch) -> Epoch:
    members = tuple(Member(each.id, each.pod, each.address, _held(each.slots)) for each in message.members)
    return Epoch(message.number, members, tuple(message.electors), frozenset(message.before), message.broken)


def _slots(held: Held) -> list[pb.Slots]:
    return [pb.Slots(layer=layer, experts=experts) for layer, experts in held.items()]


def _held(slots: Iterable[pb.Slots]) -> Held:
    return {each.layer: tuple(each.experts) for each in slots}
