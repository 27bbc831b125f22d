"""Which group the ranks of this pod step with, carried out: they are told of an epoch, and heard when they enter it.

Which epoch comes next is decided in `epochs`. Knows what the other pods told; starts and ends no rank.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from openmodel_runtime.config import GroupConfig
from openmodel_runtime.errors import Unavailable
from openmodel_runtime.group.coverage import coverage, is_lacking
from openmodel_runtime.group.epochs import initial_slots, is_isolated, newest_epoch, next_epoch, settled
from openmodel_runtime.group.load_window import Counts, LoadWindow
from openmodel_runtime.group.local_rank import LocalRank, RankMetrics
from openmodel_runtime.group.local_ranks import LocalRanks
from openmodel_runtime.group.meeting_places import MeetingPlaces
from openmodel_runtime.group.peers import Peers
from openmodel_runtime.group.report import GroupReport, LayerLoad
from openmodel_runtime.group.state import Epoch, Held, PodState, RankState, Seen, View
from openmodel_runtime.parallel.balance import Load, imbalance
from openmodel_runtime.parallel.placement import Slots
from openmodel_runtime.rank.messages import GroupShare, Regroup

_log = logging.getLogger(__name__)
_ISOLATED = "this pod sees too few of its group to answer; send the request again"


class Regrouping:
    """This pod's part in the epochs of its group."""

    def __init__(
        self, config: GroupConfig, peers: Peers, ranks: LocalRanks, metrics: RankMetrics, state: PodState
    ) -> None:
        """`state` is what the pod is before it has any rank."""
        self._config = config
        self._peers = peers
        self._ranks = ranks
        self._metrics = metrics
        self._base = state
        self._places = MeetingPlaces()
        self._epoch: Epoch | None = None
        self.alone = config.size == 1 and not config.peers
        """Nobody shares experts or matrices with this rank, ever."""
        self._load = LoadWindow()
        self._since = 0.0
        self._last_rebalance = 0.0
        self._lacking = False
        self._waited = False
        self.may_join = asyncio.Event()
        """Set while a further rank can come: all members step with the newest epoch, or can not without it."""

    def close(self) -> None:
        """No rank is left."""
        self._peers.tell(self._state())
        self._places.close()

    @property
    def may_end(self) -> bool:
        """True when nobody needs this pod any more: of one that has drained, others have taken the experts over."""
        pods = self._peers.view().values()
        others = [pod for pod in pods if pod.seen is Seen.LIVE and pod.ranks and not pod.drained]
        view, stepping = self._view(), any(member.epoch for member in self._ranks)
        # Where the others can not do without, they wait for whoever comes in its place.
        return not others or (not stepping and (settled(view) or is_lacking(view)))

    @property
    def hopeless(self) -> bool:
        """No rank of this pod will step with any that are there: all have to begin anew."""
        if (
            self.alone
            or self._config.tensor
            or self._base.isolated
            or any(member.epoch or member.promised for member in self._ranks)
        ):
            return False
        return self._initial_slots(1) is None

    @property
    def _number(self) -> int:
        """Of the newest epoch; 0 before the first."""
        return 0 if self._epoch is None else self._epoch.number

    def shares(self) -> list[GroupShare | None]:
        """What the ranks of this pod are to load, when it has none."""
        count = self._config.ranks_per_pod
        if self.alone:
            return [None] * count
        first = self._config.pod * count
        held: Sequence[Held | None] = (None if self._config.tensor else self._initial_slots(count)) or [None] * count
        return [self._share(first + index, slots) for index, slots in enumerate(held)]

    def replacement_share(self) -> GroupShare | None:
        """What a further rank of this pod is to load; None while there is no group to come to."""
        if self._config.tensor:
            first = self._config.pod * self._config.ranks_per_pod
            there = {member.place for member in self._ranks}
            return self._share(min({*range(first, first + self._config.ranks_per_pod)} - there), None)
        slots = self._initial_slots(1)
        return None if slots is None else self._share(0, slots[0])

    def become(self, state: PodState) -> None:
        """The pod is something else now, beside its ranks."""
        self._base = state
        self.changed()

    def changed(self) -> None:
        """Something about this pod or another is new: carries out what follows."""
        if self.alone:
            return
        isolated = is_isolated(self._view())
        if isolated and not self._base.isolated:
            self._stand_still()
        self._base = replace(self._base, isolated=isolated)
        lacking = self._epoch is not None and is_lacking(self._view())
        if lacking and not self._lacking:
            self._wait_for_others()
        self._lacking = lacking
        view = self._view()
        newest = newest_epoch(view)
        made = next_epoch(view, self._config.pod, self._base.redundant, self._load_to_even_out(), waited=self._waited)
        for epoch in (newest, made):
            if epoch is not None and (self._epoch is None or epoch.number > self._epoch.number):
                self._go_over(epoch)
        (self.may_join.set if lacking or settled(self._view()) else self.may_join.clear)()
        self._peers.tell(self._state())

    def has_waited(self) -> None:
        """The group should have begun by now: whoever is missing may come later."""
        self._waited = True
        self.changed()

    def regrouped(self, member: LocalRank, number: int) -> None:
        """A rank of this pod steps with another group."""
        held = member.promised.get(number)
        member.regrouped = True
        member.epoch = 0 if held is None else number
        member.held = member.held if held is None else held
        member.promised = {later: slots for later, slots in member.promised.items() if later > number}
        self._ranks.take_requests(member, held is not None)
        self.changed()

    def not_met(self, member: LocalRank, number: int) -> None:
        """The ranks of an epoch have not come together: another is to be made."""
        if member.promised.pop(number, None) is not None:
            member.left = number
            self.changed()

    def report(self) -> GroupReport:
        """The group as this pod sees it."""
        layers: Mapping[int, Sequence[Slots]] = {}
        if self._epoch is not None and self._load.enough(len(self._epoch.members)):
            layers = self._epoch.layers()
        load = self._load.recent
        return GroupReport(
            coverage=coverage(self._view()),
            wanted_ranks=self._base.size,
            epoch=self._number,
            imbalance=imbalance(layers, load) if layers else 0.0,
            layers={
                layer: LayerLoad(
                    imbalance=imbalance({layer: slots}, load),
                    hottest=max(load[layer]) * len(load[layer]) / sum(load[layer]),
                )
                for layer, slots in layers.items()
            },
            last_rebalance=self._last_rebalance,
        )

    def told_load(self, member: LocalRank, counts: Counts) -> None:
        """A rank of this pod has counted where tokens went."""
        self._load.add(member.id, counts, asyncio.get_running_loop().time())
        self.changed()
        self._metrics.group_changed(self.report())

    def _load_to_even_out(self) -> Mapping[int, Load] | None:
        """The experts' load, when it is time to move some for it."""
        quiet = asyncio.get_running_loop().time() - self._since
        if not self._config.rebalance_seconds or quiet < self._config.rebalance_seconds or self._epoch is None:
            return None
        return self._load.recent if self._load.enough(len(self._epoch.members)) else None

    def _initial_slots(self, count: int) -> list[Held] | None:
        return initial_slots(self._view(), self._config.pod, count, self._base.redundant)

    def _share(self, rank: int, slots: Held | None) -> GroupShare:
        held = None if slots is None else dict(slots)
        return GroupShare(
            rank=rank,
            size=self._base.size,
            tensor=self._config.tensor,
            redundant=self._base.redundant,
            spared=self._spared(),
            slots=held,
        )

    def _spared(self) -> tuple[int, ...]:
        """Ranks whose loss the others should have memory for, the best number first."""
        if self._config.failover_ranks is not None:
            return (self._config.failover_ranks,)
        return tuple(sorted({self._config.ranks_per_pod, 1}, reverse=True))

    def _state(self) -> PodState:
        ranks = tuple(
            RankState(member.id, member.epoch, member.held, member.loaded.room, member.place, member.left)
            for member in self._ranks
        )
        experts = max((member.loaded.experts for member in self._ranks), default=0)
        return replace(self._base, ranks=ranks, experts=experts, epoch=self._epoch)

    def _view(self) -> View:
        return {**self._peers.view(), self._config.pod: self._state()}

    def _go_over(self, epoch: Epoch) -> None:
        """Tells the ranks of this pod of the epoch."""
        before, self._epoch, self._waited = self._epoch, epoch, False
        if before is not None and not epoch.broken and before.places() == epoch.places():
            self._last_rebalance = time.time()
        self._since = asyncio.get_running_loop().time()
        layers = epoch.layers()
        for member in self._ranks:
            rank = epoch.rank_of(member.id)
            if rank is not None:
                member.promised[epoch.number] = epoch.members[rank].held
                place = self._places.of(epoch, rank)
                member.client.regroup(Regroup(epoch.number, place, layers, epoch.broken))
            elif member.epoch or member.promised:
                member.client.regroup(Regroup(epoch.number, None, {}, epoch.broken))
        self._metrics.group_changed(self.report())
        mine = [member.client.pid for member in self._ranks if epoch.rank_of(member.id) is not None]
        _log.info("epoch %d: %d ranks share the model, here %s", epoch.number, len(epoch.members), mine)

    def _stand_still(self) -> None:
        """Others may go on without this pod: its ranks leave their group, and come to the next as new ones."""
        _log.error("too few pods of the group are in reach: this one answers nobody until it sees more")
        self._leave()
        for member in self._ranks:
            member.id = secrets.token_hex(8)
            member.client.give_up(Unavailable(_ISOLATED))

    def _wait_for_others(self) -> None:
        """What is left of the group can not hold all experts: its ranks wait, with their requests, for others."""
        if self._config.tensor:
            _log.error("ranks that have a part of each matrix are lost: those that are left wait for others")
        else:
            found = coverage(self._view())
            _log.error(
                "%d of %d experts of each layer are missing: the %d ranks that are left have no memory for them, and "
                "wait for others", found.missing, found.experts, found.ranks,
            )  # fmt: skip
        self._leave()
        for member in self._ranks:
            member.left = self._number
        self._metrics.group_changed(self.report())

    def _leave(self) -> None:
        """The ranks of this pod step with nobody."""
        for member in self._ranks:
            if member.epoch or member.promised:
                member.client.regroup(Regroup(self._number, None, {}, broken=True))
            member.epoch = 0
            member.promised.clear()
            self._ranks.take_requests(member, False)
