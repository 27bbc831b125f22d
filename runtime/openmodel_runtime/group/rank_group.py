"""The ranks of this pod: started together, replaced one by one.

While those that are left have memory for all experts, the group serves: they take over the lost one's as the next
epoch, and its replacement comes in with the one after (`regrouping`). Requests of a rank that is lost end; those of the
others go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from openmodel_runtime.config import EngineConfig, GroupConfig
from openmodel_runtime.group.group_client import GroupClient
from openmodel_runtime.group.local_rank import LocalRank, RankMetrics, together
from openmodel_runtime.group.local_ranks import LocalRanks
from openmodel_runtime.group.pauses import pauses
from openmodel_runtime.group.peers import Peers
from openmodel_runtime.group.regrouping import Regrouping
from openmodel_runtime.group.report import GroupReport, QueueReport
from openmodel_runtime.group.starting import DiedLoading, RankStartError, start_ranks
from openmodel_runtime.group.state import PodState
from openmodel_runtime.rank.client import RankClient
from openmodel_runtime.rank.messages import Fit, GroupShare, Loaded

_log = logging.getLogger(__name__)
_LOAD_SECONDS = 5.0
# Pods that start together have loaded within moments of each other; one that has no node may never come.
_PATIENCE_SECONDS = 30.0


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
        self._metrics = metrics
        self._ranks = LocalRanks(peers.ring, on_ready, metrics)
        self._regrouping = Regrouping(group, peers, self._ranks, metrics, state)
        # All that were started, also those that have not loaded.
        self._clients: list[RankClient] = []
        self._serving: dict[asyncio.Task[None], LocalRank] = {}
        self._replacing: asyncio.Task[LocalRank] | None = None
        self._asking: asyncio.Task[None] | None = None
        self.exit_code = 0
        """Of the rank that ended last."""
        self.loaded: Loaded | None = None
        """What the ranks loaded, together."""

    async def start(self) -> bool:
        """Starts all; False when one died before it could serve. RankStartError when one says that it never will."""
        try:
            members = await self._start(self._regrouping.shares())
        except DiedLoading:
            return False
        # Nobody shares the experts of a model that has none.
        self._regrouping.alone |= not members[0].loaded.slots and not self._config.tensor
        self.loaded = together([member.loaded for member in members], tensor=self._config.tensor)
        for member in members:
            self._add(member)
        self._regrouping.changed()
        entered = asyncio.ensure_future(self._ranks.entered.wait())
        waiting = asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, self._regrouping.has_waited)
        try:
            await asyncio.wait({entered, *self._serving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            entered.cancel()
            waiting.cancel()
        if not self._ranks.entered.is_set():
            (dead, *_) = [member for task, member in self._serving.items() if task.done()]
            self.exit_code = await dead.client.exit_code()
        return self._ranks.entered.is_set()

    async def serve(self) -> None:
        """Passes tokens on until no rank is left that could."""
        self._asking = asyncio.ensure_future(self._keep_asking_load())
        while self._serving and not self._regrouping.hopeless:
            waiting: set[asyncio.Task[None] | asyncio.Task[LocalRank]] = {*self._serving}
            if self._replacing is not None:
                waiting.add(self._replacing)
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in self._serving if task.done()]:
                await self._lose(self._serving.pop(task))
            if self._replacing is not None and self._replacing.done():
                self._add(await self._replacing)
                self._replacing = None
                self._regrouping.changed()
            self._replace()

    async def stop(self) -> None:
        """Ends all."""
        tasks = [*self._serving, *(task for task in (self._replacing, self._asking) if task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in self._clients:
            await client.stop()
        self._ranks.clear()
        self._regrouping.close()

    @property
    def client(self) -> GroupClient:
        """Takes requests for all."""
        return self._ranks.client

    @property
    def pids(self) -> list[int]:
        """Process ids."""
        return [member.client.pid for member in self._ranks]

    @property
    def may_end(self) -> bool:
        """See `Regrouping`."""
        return self._regrouping.may_end

    def queue(self) -> QueueReport:
        """What the ranks have to do."""
        return self._ranks.queue()

    def report(self) -> GroupReport:
        """See `Regrouping`."""
        return self._regrouping.report()

    def become(self, state: PodState) -> None:
        """See `Regrouping`."""
        self._regrouping.become(state)

    def changed(self) -> None:
        """See `Regrouping`."""
        self._regrouping.changed()

    async def _start(self, shares: list[GroupShare | None], fit: Fit | None = None) -> list[LocalRank]:
        """Starts ranks; DiedLoading when one died."""
        clients = [RankClient() for _ in shares]
        self._clients += clients
        try:
            loaded = await start_ranks(clients, self._model_path, self._engine, shares, fit)
        except (DiedLoading, RankStartError) as failure:
            self.exit_code = failure.exit_code if isinstance(failure, DiedLoading) else self.exit_code
            for client in clients:
                self._clients.remove(client)
                await client.stop()
            raise
        return [
            LocalRank(client, each, each.slots, share.rank if share is not None and share.tensor else 0)
            for client, each, share in zip(clients, loaded, shares, strict=True)
        ]

    def _add(self, member: LocalRank) -> None:
        """A rank has loaded: from now on it is heard."""
        self._ranks.add(member)
        serving = member.client.serve(
            lambda step: self._ranks.stepped(member, step),
            lambda number: self._regrouping.regrouped(member, number),
            lambda counts: self._regrouping.told_load(member, counts.layers),
            lambda number: self._regrouping.not_met(member, number),
        )
        self._serving[asyncio.ensure_future(serving)] = member
        if self._regrouping.alone:
            self._ranks.take_requests(member, True)

    async def _lose(self, member: LocalRank) -> None:
        """A rank has ended: the others go on."""
        self._clients.remove(member.client)
        self._ranks.remove(member)
        self._regrouping.changed()
        self.exit_code = await member.client.exit_code()
        self._metrics.rank_died()
        _log.error("a rank ended with exit code %d; %d are left", self.exit_code, len(self._ranks))

    async def _keep_asking_load(self) -> None:
        """Has a rank tell how many tokens went to each expert: one that steps with the group knows of all."""
        while not self._regrouping.alone:
            if (member := next((each for each in self._ranks if each.epoch), None)) is not None:
                member.client.ask_load()
            await asyncio.sleep(min(_LOAD_SECONDS, self._config.rebalance_seconds or _LOAD_SECONDS))

    def _replace(self) -> None:
        """Starts a rank for one that was lost, if none is on its way."""
        if self._replacing is None and 0 < len(self._ranks) < self._config.ranks_per_pod:
            self._replacing = asyncio.ensure_future(self._replacement())

    async def _replacement(self) -> LocalRank:
        for pause in pauses():
            await asyncio.sleep(pause)
            # Those who are left need the processors first, if they can do without.
            await self._regrouping.may_join.wait()
            share = self._regrouping.replacement_share()
            if share is None or not len(self._ranks):
                continue
            like = [member.loaded for member in self._ranks]
            fit = Fit(1, min(loaded.kv_cache_tokens for loaded in like), min(loaded.room for loaded in like))
            try:
                (member,) = await self._start([share], fit)
            except (RankStartError, DiedLoading) as failure:
                _log.error("a rank that should replace one has not loaded: %s", failure)
            else:
                return member
        raise AssertionError("pauses do not end")
