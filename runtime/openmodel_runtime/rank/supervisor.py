"""Keeps the ranks of a pod running, and says whether they are there.

Ranks that share experts live and die together: when one dies, all are started again without the pod, after a pause that
doubles with each death in a row. A rank that says
that its model can not be served ends the whole runtime: starting again would not help. So does one that dies again and
again before it has loaded: whoever started the runtime must see that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from msgspec import structs

from openmodel_runtime.config import EngineConfig, GroupMember
from openmodel_runtime.errors import RuntimeFault, StartError, Unavailable
from openmodel_runtime.rank.client import RankClient
from openmodel_runtime.rank.group_client import GroupClient
from openmodel_runtime.rank.messages import Loaded, StartFailed, StepDone

_log = logging.getLogger(__name__)
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
_MOST_DEATHS_BEFORE_LOADED = 3


class RankStartError(StartError):
    """A rank's own reason, passed on."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class RankKeepsDying(RuntimeFault):
    """Ranks died in a row, and none of them had loaded its model."""


class RankMetrics(Protocol):
    """Whoever counts what a rank does."""

    def loaded(self, loaded: Loaded) -> None:
        """A rank has its model."""

    def step_done(self, step: StepDone) -> None:
        """A rank ran a step."""

    def rank_died(self) -> None:
        """A rank ended on its own."""


class RankSupervisor:
    """The ranks of this pod. `run` keeps them alive; `client` takes requests for those that run."""

    def __init__(
        self,
        model_path: Path,
        engine: EngineConfig,
        *,
        on_ready: Callable[[bool], None],
        metrics: RankMetrics,
    ) -> None:
        self._model_path = model_path
        self._engine = engine
        self._on_ready = on_ready
        self._metrics = metrics
        self._client: GroupClient | None = None
        self._loaded: Loaded | None = None

    @property
    def client(self) -> GroupClient:
        """The running ranks; Unavailable while there are none."""
        if self._client is None:
            raise Unavailable("the model is loading")
        return self._client

    @property
    def loaded(self) -> Loaded:
        """What the ranks loaded; Unavailable before the first load."""
        if self._loaded is None:
            raise Unavailable("the model is loading")
        return self._loaded

    async def run(self) -> None:
        """Starts the ranks again and again; ends only by cancellation, RankStartError or RankKeepsDying."""
        pause = _FIRST_PAUSE_SECONDS
        deaths_before_loaded = 0
        while True:
            ranks = _Ranks(self._engine.expert_parallel_size, self._metrics)
            try:
                loaded = await ranks.start(self._model_path, self._engine)
                if loaded is None:
                    deaths_before_loaded += 1
                else:
                    deaths_before_loaded = 0
                    self._loaded, self._client, pause = loaded, GroupClient(ranks.clients), _FIRST_PAUSE_SECONDS
                    _log.info("ranks %s serve %s", ranks.pids, loaded.architecture)
                    self._metrics.loaded(loaded)
                    self._metrics.step_done(_idle(free_tokens=loaded.kv_cache_tokens))
                    self._on_ready(True)
                    await ranks.serve()
                self._lose_client()
                code = await ranks.exit_code()
            finally:
                self._lose_client()
                await ranks.stop()
            self._metrics.rank_died()
            self._metrics.step_done(_idle(free_tokens=0))
            if deaths_before_loaded == _MOST_DEATHS_BEFORE_LOADED:
                raise RankKeepsDying(
                    f"ranks died {deaths_before_loaded} times in a row before their model was loaded, the last time "
                    f"with exit code {code}; the log says why"
                )
            _log.error("a rank ended with exit code %d; starting again in %.0f s", code, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _lose_client(self) -> None:
        self._client = None
        self._on_ready(False)


class _Ranks:
    """The ranks of one group from their start to the end of the first of them, which is the end of all."""

    def __init__(self, size: int, metrics: RankMetrics) -> None:
        self._metrics = metrics
        self._last = [_idle(free_tokens=0)] * size
        self.clients = [RankClient(partial(self._step_done, rank)) for rank in range(size)]
        self._folder = TemporaryDirectory(prefix="openmodel-group-")
        self._first_to_end = self.clients[0]

    @property
    def pids(self) -> list[int]:
        """Process ids."""
        return [client.pid for client in self.clients]

    async def start(self, model_path: Path, engine: EngineConfig) -> Loaded | None:
        """Waits for all to load; None when one died before it had. RankStartError when one says that it never will."""
        size, store = len(self.clients), str(Path(self._folder.name) / "store")
        members = [None] if size == 1 else [GroupMember(rank=rank, size=size, store=store) for rank in range(size)]
        starts = [
            asyncio.ensure_future(self._start(client, model_path, engine, member))
            for client, member in zip(self.clients, members, strict=True)
        ]
        loaded = []
        try:
            # One that fails is heard of before those that wait for it.
            for each in asyncio.as_completed(starts):
                outcome = await each
                if isinstance(outcome, StartFailed):
                    raise RankStartError(outcome.reason, outcome.message)
                if outcome is None:
                    return None
                loaded.append(outcome)
        finally:
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
        self._last = [_idle(free_tokens=each.kv_cache_tokens) for each in loaded]
        return structs.replace(
            loaded[0],
            weight_bytes=sum(each.weight_bytes for each in loaded),
            billed_bytes=sum(each.billed_bytes for each in loaded),
            kv_cache_tokens=sum(each.kv_cache_tokens for each in loaded),
            load_seconds=max(each.load_seconds for each in loaded),
        )

    async def _start(
        self, client: RankClient, model_path: Path, engine: EngineConfig, member: GroupMember | None
    ) -> Loaded | StartFailed | None:
        outcome = await client.start(model_path, engine, member)
        if outcome is None:
            self._first_to_end = client
        return outcome

    async def serve(self) -> None:
        """Passes tokens on until one rank ends."""
        serving = {asyncio.ensure_future(client.serve()): client for client in self.clients}
        try:
            done, _ = await asyncio.wait(serving, return_when=asyncio.FIRST_COMPLETED)
            first = next(iter(done))
            self._first_to_end = serving[first]
            await first
        finally:
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)

    async def exit_code(self) -> int:
        """Of the rank that ended first."""
        return await self._first_to_end.exit_code()

    async def stop(self) -> None:
        """Ends all."""
        for client in self.clients:
            await client.stop()
        self._folder.cleanup()

    def _step_done(self, rank: int, step: StepDone) -> None:
        self._last[rank] = step
        self._metrics.step_done(
            structs.replace(
                step,
                running=sum(each.running for each in self._last),
                waiting=sum(each.waiting for each in self._last),
                free_tokens=sum(each.free_tokens for each in self._last),
            )
        )


def _idle(free_tokens: int) -> StepDone:
    """What the metrics are told while no step has run."""
    return StepDone(outputs=[], running=0, waiting=0, free_tokens=free_tokens)
