"""The ranks of one group: started together, regrouped when one is lost, replaced one by one.

While one rank of a group lives, the group serves: the others take over the lost one's experts as the next epoch, and
its replacement comes in with the one after. Requests of a rank that is lost end; those of the others go on.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from msgspec import structs

from openmodel_runtime.config import EngineConfig, GroupMember
from openmodel_runtime.errors import StartError
from openmodel_runtime.parallel.placement import Placement, Slots, evolve, plan_placement
from openmodel_runtime.rank.client import RankClient
from openmodel_runtime.rank.group_client import GroupClient
from openmodel_runtime.rank.messages import Loaded, Regroup, Start, StartFailed, StepDone

_log = logging.getLogger(__name__)
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0


class RankStartError(StartError):
    """A rank's own reason, passed on."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class RankMetrics(Protocol):
    """Whoever counts what a rank does."""

    def loaded(self, loaded: Loaded) -> None:
        """A rank has its model."""

    def step_done(self, step: StepDone) -> None:
        """A rank ran a step."""

    def rank_died(self) -> None:
        """A rank ended on its own."""


def _shared_memory() -> str | None:
    """Where files are memory; None for where temporary files are, which is slower to begin with and no worse then."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def pauses() -> Iterator[float]:
    """Seconds to wait before each try in a row."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def idle_step(free_tokens: int) -> StepDone:
    """What the metrics are told while no step has run."""
    return StepDone(outputs=[], running=0, waiting=0, free_tokens=free_tokens)


@dataclass(eq=False)
class _Member:
    """A rank that has loaded."""

    client: RankClient
    loaded: Loaded
    slots: dict[int, Slots] = field(default_factory=dict)
    """What it holds, or will once it has come to the newest epoch."""
    epoch: int = 0
    """The one that it steps with, as far as it has said."""
    takes_requests: bool = False
    last: StepDone = field(default_factory=lambda: idle_step(0))


class RankGroup:
    """The ranks of this pod."""

    def __init__(self, model_path: Path, engine: EngineConfig, metrics: RankMetrics) -> None:
        self._model_path = model_path
        self._engine = engine
        self._metrics = metrics
        self._folder = TemporaryDirectory(prefix="openmodel-group-", dir=_shared_memory())
        self._size = engine.expert_parallel_size
        self._epoch = 0
        self._members: list[_Member] = []
        # All that were started, also those that have not loaded.
        self._clients: list[RankClient] = []
        self._serving: dict[asyncio.Task[None], _Member] = {}
        self._replacing: asyncio.Task[_Member] | None = None
        # Set while all members step with the newest epoch.
        self._settled = asyncio.Event()
        self.exit_code = 0
        """Of the rank that ended last."""
        self.client = GroupClient()

    async def start(self) -> Loaded | None:
        """Starts all; None when one died before it had loaded. RankStartError when one says that it never will."""
        self._epoch = 1
        members = [self._member(rank, self._size) for rank in range(self._size)] if self._size > 1 else [None]
        starts = [asyncio.ensure_future(self._start(Start(*self._model(), member))) for member in members]
        try:
            # One that fails is heard of before those that wait for it.
            for each in asyncio.as_completed(starts):
                if await each is None:
                    return None
            loaded = [member for start in starts if (member := start.result()) is not None]
        finally:
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
        first = loaded[0].loaded
        if self._size > 1:
            placement = plan_placement(first.routed_layers, first.experts, self._size, self._engine.redundant_experts)
            for rank, member in enumerate(loaded):
                member.slots = placement.of_rank(rank)
        for member in loaded:
            self._add(member)
            self._take_requests(member)
        return structs.replace(
            first,
            weight_bytes=sum(each.loaded.weight_bytes for each in loaded),
            billed_bytes=sum(each.loaded.billed_bytes for each in loaded),
            kv_cache_tokens=sum(each.loaded.kv_cache_tokens for each in loaded),
            load_seconds=max(each.loaded.load_seconds for each in loaded),
        )

    async def serve(self) -> None:
        """Passes tokens on until no rank is left that could."""
        while any(member.takes_requests for member in self._members):
            waiting: set[asyncio.Task[None] | asyncio.Task[_Member]] = {*self._serving}
            if self._replacing is not None:
                waiting.add(self._replacing)
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in self._serving if task.done()]:
                await self._lose(self._serving.pop(task))
            if self._replacing is not None and self._replacing.done():
                self._add(await self._replacing)
                self._replacing = None
                self._regroup(broken=False)
            self._replace()

    async def stop(self) -> None:
        """Ends all."""
        tasks = [*self._serving, *([self._replacing] if self._replacing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in self._clients:
            await client.stop()
        self._folder.cleanup()

    @property
    def pids(self) -> list[int]:
        """Process ids."""
        return [member.client.pid for member in self._members]

    def _model(self) -> tuple[str, EngineConfig]:
        return str(self._model_path), self._engine

    def _member(self, rank: int, size: int) -> GroupMember:
        store = str(Path(self._folder.name) / f"epoch-{self._epoch}")
        return GroupMember(rank=rank, size=size, epoch=self._epoch, store=store)

    async def _start(self, message: Start) -> _Member | None:
        """Starts a rank; None when it died."""
        client = RankClient()
        self._clients.append(client)
        outcome = await client.start(message)
        if isinstance(outcome, StartFailed):
            raise RankStartError(outcome.reason, outcome.message)
        if outcome is None:
            self.exit_code = await client.exit_code()
            return None
        return _Member(client, outcome)

    def _add(self, member: _Member) -> None:
        """A rank has loaded: from now on it is heard."""
        member.last = idle_step(member.loaded.kv_cache_tokens)
        self._members.append(member)

        def stepped(step: StepDone) -> None:
            member.last = step
            self._tell_metrics(step)

        def regrouped(epoch: int) -> None:
            member.epoch = epoch
            self._take_requests(member)
            if all(each.epoch == self._epoch for each in self._members):
                self._settled.set()

        self._serving[asyncio.ensure_future(member.client.serve(stepped, regrouped))] = member

    def _take_requests(self, member: _Member) -> None:
        if not member.takes_requests:
            member.takes_requests = True
            self.client.add(member.client)

    async def _lose(self, member: _Member) -> None:
        """A rank has ended: the others go on."""
        self._members.remove(member)
        self._clients.remove(member.client)
        self.client.remove(member.client)
        self.exit_code = await member.client.exit_code()
        self._metrics.rank_died()
        self._tell_metrics(idle_step(0))
        _log.error("a rank ended with exit code %d; %d are left", self.exit_code, len(self._members))
        if any(each.takes_requests for each in self._members):
            self._regroup(broken=True)

    def _replace(self) -> None:
        """Starts a rank for one that was lost, if none is on its way."""
        if self._replacing is None and 0 < len(self._members) < self._size:
            self._replacing = asyncio.ensure_future(self._replacement())

    async def _replacement(self) -> _Member:
        for pause in pauses():
            await asyncio.sleep(pause)
            # Those who are left need the processors first.
            await self._settled.wait()
            # What it will hold when nothing else happens meanwhile; the next epoch says what it holds in the end.
            slots = self._evolved(joining=1).of_rank(len(self._members))
            tokens = min(member.loaded.kv_cache_tokens for member in self._members)
            with suppress(RankStartError):
                member = await self._start(Start(*self._model(), None, slots, tokens))
                if member is not None:
                    member.slots = slots
                    return member
            _log.error("a rank that should replace one ended with exit code %d before it had loaded", self.exit_code)
        raise AssertionError("pauses do not end")

    def _evolved(self, joining: int = 0) -> Placement:
        first = self._members[0].loaded
        held = {
            layer: [member.slots[layer] for member in self._members] + [()] * joining for layer in first.routed_layers
        }
        return evolve(held, first.experts, self._engine.redundant_experts)

    def _regroup(self, *, broken: bool) -> None:
        """Makes all that are there the next epoch."""
        self._epoch += 1
        self._settled.clear()
        placement = self._evolved()
        for rank, member in enumerate(self._members):
            member.slots = placement.of_rank(rank)
            place = self._member(rank, len(self._members))
            member.client.regroup(Regroup(place, dict(placement.layers), broken))
        _log.info("epoch %d: ranks %s share the experts", self._epoch, self.pids)

    def _tell_metrics(self, step: StepDone) -> None:
        self._metrics.step_done(
            structs.replace(
                step,
                running=sum(member.last.running for member in self._members),
                waiting=sum(member.last.waiting for member in self._members),
                free_tokens=sum(member.last.free_tokens for member in self._members),
            )
        )
