"""The ranks of this pod: started together, told which epoch to step with, replaced one by one.

While one rank of the group lives, the group serves: the others take over the lost one's experts as the next epoch, and
its replacement comes in with the one after. Requests of a rank that is lost end; those of the others go on. Which epoch
comes next is decided in `epochs`; here it is carried out.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from msgspec import structs

from openmodel_runtime.config import EngineConfig, GroupConfig
from openmodel_runtime.errors import Unavailable
from openmodel_runtime.group.epochs import initial_slots, is_isolated, newest_epoch, next_epoch, settled
from openmodel_runtime.group.group_client import GroupClient
from openmodel_runtime.group.local_rank import LocalRank, RankMetrics, idle_step, together
from openmodel_runtime.group.meeting_places import MeetingPlaces
from openmodel_runtime.group.pauses import pauses
from openmodel_runtime.group.peers import Peers
from openmodel_runtime.group.starting import DiedLoading, RankStartError, start_ranks
from openmodel_runtime.group.state import Epoch, Held, PodState, RankState, Seen, View
from openmodel_runtime.rank.client import RankClient
from openmodel_runtime.rank.messages import GroupShare, Loaded, Regroup, StepDone

_log = logging.getLogger(__name__)
_ISOLATED = "this pod sees too few of its group to answer; send the request again"


class RankGroup:
    """The ranks of this pod, from their start until none is left."""

    def __init__(
        self,
        model_path: Path,
        engine: EngineConfig,
        group: GroupConfig,
        peers: Peers,
        *,
        on_ready: Callable[[bool], None],
        metrics: RankMetrics,
        state: PodState,
    ) -> None:
        """`state` is what the pod is before it has any rank."""
        self._model_path = model_path
        self._engine = engine
        self._config = group
        self._peers = peers
        self._on_ready = on_ready
        self._metrics = metrics
        self._base = state
        self._places = MeetingPlaces()
        self._alone = group.size == 1 and not group.peers
        self._epoch: Epoch | None = None
        self._members: list[LocalRank] = []
        # All that were started, also those that have not loaded.
        self._clients: list[RankClient] = []
        self._serving: dict[asyncio.Task[None], LocalRank] = {}
        self._replacing: asyncio.Task[LocalRank] | None = None
        # Set while all members step with the newest epoch.
        self._settled = asyncio.Event()
        self._entered = asyncio.Event()
        self.exit_code = 0
        """Of the rank that ended last."""
        self.client = GroupClient(peers.ring)
        self.loaded: Loaded | None = None
        """What the ranks loaded, together."""

    async def start(self) -> bool:
        """Starts all; False when one died before it could serve. RankStartError when one says that it never will."""
        count = self._config.ranks_per_pod
        slots = None if self._alone else initial_slots(self._view(), self._config.pod, count, self._base.redundant)
        shares = [self._share(index, None if slots is None else slots[index]) for index in range(count)]
        try:
            members = await self._start(shares)
        except DiedLoading:
            return False
        # Nobody shares the experts of a model that has none.
        self._alone = self._alone or not members[0].loaded.slots
        self.loaded = together([member.loaded for member in members])
        for member in members:
            self._add(member)
        self.changed()
        entered = asyncio.ensure_future(self._entered.wait())
        try:
            await asyncio.wait({entered, *self._serving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            entered.cancel()
        if not self._entered.is_set():
            (dead, *_) = [member for task, member in self._serving.items() if task.done()]
            self.exit_code = await dead.client.exit_code()
        return self._entered.is_set()

    async def serve(self) -> None:
        """Passes tokens on until no rank is left that could."""
        while self._members and not self._hopeless():
            waiting: set[asyncio.Task[None] | asyncio.Task[LocalRank]] = {*self._serving}
            if self._replacing is not None:
                waiting.add(self._replacing)
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in self._serving if task.done()]:
                await self._lose(self._serving.pop(task))
            if self._replacing is not None and self._replacing.done():
                self._add(await self._replacing)
                self._replacing = None
                self.changed()
            self._replace()

    async def stop(self) -> None:
        """Ends all."""
        tasks = [*self._serving, *([self._replacing] if self._replacing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in self._clients:
            await client.stop()
        self._members.clear()
        self._peers.tell(self._state())
        self._places.close()

    @property
    def pids(self) -> list[int]:
        """Process ids."""
        return [member.client.pid for member in self._members]

    @property
    def may_end(self) -> bool:
        """True when nobody needs this pod any more: of one that has drained, others have taken the experts over."""
        pods = self._peers.view().values()
        others = [pod for pod in pods if pod.seen is Seen.LIVE and pod.ranks and not pod.drained]
        return not others or (settled(self._view()) and not any(member.epoch for member in self._members))

    def become(self, state: PodState) -> None:
        """The pod is something else now, beside its ranks."""
        self._base = state
        self.changed()

    def rung(self, bell: int) -> None:
        """Ranks of another pod have work."""
        self.client.hear(bell)

    def changed(self) -> None:
        """Something about this pod or another is new: carries out what follows."""
        if self._alone:
            return
        isolated = is_isolated(self._view())
        if isolated and not self._base.isolated:
            self._stand_still()
        self._base = replace(self._base, isolated=isolated)
        view = self._view()
        newest = newest_epoch(view)
        made = next_epoch(view, self._config.pod, self._base.redundant)
        for epoch in (newest, made):
            if epoch is not None and (self._epoch is None or epoch.number > self._epoch.number):
                self._go_over(epoch)
        (self._settled.set if settled(self._view()) else self._settled.clear)()
        self._peers.tell(self._state())

    def _hopeless(self) -> bool:
        """No rank of this pod will step with any that are there: all have to begin anew."""
        if self._alone or self._base.isolated or any(member.epoch or member.promised for member in self._members):
            return False
        return initial_slots(self._view(), self._config.pod, 1, self._base.redundant) is None

    def _state(self) -> PodState:
        ranks = tuple(RankState(member.id, member.epoch, member.held) for member in self._members)
        experts = self._members[0].loaded.experts if self._members else 0
        return replace(self._base, ranks=ranks, experts=experts, epoch=self._epoch)

    def _view(self) -> View:
        return {**self._peers.view(), self._config.pod: self._state()}

    def _share(self, index: int, slots: Held | None) -> GroupShare | None:
        if self._alone:
            return None
        rank = self._config.pod * self._config.ranks_per_pod + index
        held = None if slots is None else dict(slots)
        return GroupShare(rank=rank, size=self._base.size, redundant=self._base.redundant, slots=held)

    async def _start(self, shares: list[GroupShare | None], tokens: int | None = None) -> list[LocalRank]:
        """Starts ranks; DiedLoading when one died."""
        clients = [RankClient() for _ in shares]
        self._clients += clients
        try:
            loaded = await start_ranks(clients, self._model_path, self._engine, shares, tokens)
        except DiedLoading as death:
            self.exit_code = death.exit_code
            raise
        return [LocalRank(client, each, each.slots) for client, each in zip(clients, loaded, strict=True)]

    def _add(self, member: LocalRank) -> None:
        """A rank has loaded: from now on it is heard."""
        member.last = idle_step(member.loaded.kv_cache_tokens)
        self._members.append(member)

        def stepped(step: StepDone) -> None:
            member.last = step
            self._tell_metrics(step)

        def regrouped(number: int) -> None:
            held = member.promised.get(number)
            member.epoch = 0 if held is None else number
            member.held = member.held if held is None else held
            member.promised = {later: slots for later, slots in member.promised.items() if later > number}
            self._take_requests(member, held is not None)
            self.changed()

        self._serving[asyncio.ensure_future(member.client.serve(stepped, regrouped))] = member
        if self._alone:
            self._take_requests(member, True)

    def _take_requests(self, member: LocalRank, takes: bool) -> None:
        if member.takes_requests == takes:
            return
        member.takes_requests = takes
        if takes:
            self.client.add(member.client)
        else:
            self.client.pause(member.client)
        if all(each.takes_requests for each in self._members):
            self._entered.set()
        self._on_ready(self.client.takes_requests)

    async def _lose(self, member: LocalRank) -> None:
        """A rank has ended: the others go on."""
        self._members.remove(member)
        self._clients.remove(member.client)
        self.client.remove(member.client)
        self._on_ready(self.client.takes_requests)
        self.changed()
        self.exit_code = await member.client.exit_code()
        self._metrics.rank_died()
        self._tell_metrics(idle_step(0))
        _log.error("a rank ended with exit code %d; %d are left", self.exit_code, len(self._members))

    def _replace(self) -> None:
        """Starts a rank for one that was lost, if none is on its way."""
        if self._replacing is None and 0 < len(self._members) < self._config.ranks_per_pod:
            self._replacing = asyncio.ensure_future(self._replacement())

    async def _replacement(self) -> LocalRank:
        for pause in pauses():
            await asyncio.sleep(pause)
            # Those who are left need the processors first.
            await self._settled.wait()
            slots = initial_slots(self._view(), self._config.pod, 1, self._base.redundant)
            if slots is None:
                continue
            tokens = min(member.loaded.kv_cache_tokens for member in self._members)
            with suppress(RankStartError, DiedLoading):
                (member,) = await self._start([self._share(len(self._members), slots[0])], tokens)
                return member
            _log.error("a rank that should replace one ended with exit code %d before it had loaded", self.exit_code)
        raise AssertionError("pauses do not end")

    def _go_over(self, epoch: Epoch) -> None:
        """Tells the ranks of this pod of the epoch."""
        self._epoch = epoch
        layers = epoch.layers()
        for member in self._members:
            rank = epoch.rank_of(member.id)
            if rank is not None:
                member.promised[epoch.number] = epoch.members[rank].held
                place = self._places.of(epoch, rank)
                member.client.regroup(Regroup(epoch.number, place, layers, epoch.broken))
            elif member.epoch or member.promised:
                member.client.regroup(Regroup(epoch.number, None, {}, epoch.broken))
        mine = [member.client.pid for member in self._members if epoch.rank_of(member.id) is not None]
        _log.info("epoch %d: %d ranks share the experts, here %s", epoch.number, len(epoch.members), mine)

    def _stand_still(self) -> None:
        """Others may go on without this pod: its ranks leave their group, and come to the next as new ones."""
        _log.error("too few pods of the group are in reach: this one answers nobody until it sees more")
        number = 0 if self._epoch is None else self._epoch.number
        for member in self._members:
            if member.epoch or member.promised:
                member.client.regroup(Regroup(number, None, {}, broken=True))
            member.id, member.epoch = secrets.token_hex(8), 0
            member.promised.clear()
            self._take_requests(member, False)
            member.client.give_up(Unavailable(_ISOLATED))

    def _tell_metrics(self, step: StepDone) -> None:
        self._metrics.step_done(
            structs.replace(
                step,
                running=sum(member.last.running for member in self._members),
                waiting=sum(member.last.waiting for member in self._members),
                free_tokens=sum(member.last.free_tokens for member in self._members),
            )
        )
