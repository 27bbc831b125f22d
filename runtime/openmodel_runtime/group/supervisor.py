"""Keeps the ranks of a pod running, and says whether they are there.

A rank that dies is replaced while the others go on (`RankGroup`). When none is left, all are started again without the
pod, after a pause that doubles with each time in a row. A rank that says that its model can not be served ends the
whole runtime: starting again would not help. So does one that dies again and again before it has loaded: whoever
started the runtime must see that.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from openmodel_runtime.config import EngineConfig, GroupConfig
from openmodel_runtime.errors import RuntimeFault, Unavailable
from openmodel_runtime.group.group_client import GroupClient
from openmodel_runtime.group.local_rank import RankMetrics, idle_step
from openmodel_runtime.group.pauses import pauses
from openmodel_runtime.group.peers import Peers
from openmodel_runtime.group.rank_group import RankGroup
from openmodel_runtime.group.report import GroupReport, QueueReport
from openmodel_runtime.group.state import PodState
from openmodel_runtime.rank.messages import Loaded

_log = logging.getLogger(__name__)
_MOST_DEATHS_BEFORE_LOADED = 3
_LOOK_SECONDS = 0.05
_SETTINGS_SECONDS = 2.0


class RankKeepsDying(RuntimeFault):
    """Ranks died in a row, and none of them had loaded its model."""


class RankSupervisor:
    """The ranks of this pod. `run` keeps them alive; `client` takes requests for those that run."""

    def __init__(
        self,
        model_path: Path,
        engine: EngineConfig,
        group: GroupConfig,
        peers: Peers,
        *,
        on_ready: Callable[[bool], None],
        metrics: RankMetrics,
    ) -> None:
        self._model_path = model_path
        self._engine = engine
        self._config = group
        self._peers = peers
        self._on_ready = on_ready
        self._metrics = metrics
        self._group: RankGroup | None = None
        self._loaded: Loaded | None = None
        self._state = PodState(pod=group.pod, address=group.address, tensor=group.tensor)

    @property
    def client(self) -> GroupClient:
        """The running ranks; Unavailable while there are none."""
        if self._group is None or not self._group.client.takes_requests:
            raise Unavailable("the model is loading, or another pod of its group takes the requests")
        return self._group.client

    @property
    def loaded(self) -> Loaded:
        """What the ranks loaded; Unavailable before the first load."""
        if self._loaded is None:
            raise Unavailable("the model is loading")
        return self._loaded

    def report(self) -> GroupReport | None:
        """The group as this pod sees it; None while it has no rank."""
        return None if self._group is None else self._group.report()

    def queue(self) -> QueueReport | None:
        """What the ranks have to do; None while there is none."""
        return None if self._group is None else self._group.queue()

    async def run(self) -> None:
        """Starts the ranks again and again; ends only by cancellation, RankStartError or RankKeepsDying."""
        self._read_settings()
        await self._peers.start(self._state, self)
        reading = None if self._config.settings is None else asyncio.ensure_future(self._keep_reading_settings())
        try:
            await self._keep_running()
        finally:
            if reading is not None:
                reading.cancel()
            await self._peers.stop()

    async def hand_over(self) -> None:
        """The pod has no more requests: returns once the others of its group do without its ranks."""
        self._become(replace(self._state, draining=True, drained=True))
        while self._group is not None and not self._group.may_end:
            await asyncio.sleep(_LOOK_SECONDS)

    def drain(self) -> None:
        """The pod gets no more requests: others take its experts over while it finishes those that it has."""
        self._become(replace(self._state, draining=True))

    def changed(self) -> None:
        """See `Listener`."""
        if self._group is not None:
            self._group.changed()

    def rung(self, bell: int) -> None:
        """See `Listener`."""
        if self._group is not None:
            self._group.client.hear(bell)

    async def _keep_running(self) -> None:
        waits = pauses()
        deaths_before_loaded = 0
        while True:
            group = RankGroup(
                self._model_path,
                self._engine,
                self._config,
                self._peers,
                on_ready=self._ready,
                metrics=self._metrics,
                state=self._state,
            )
            try:
                self._group = group
                if not await group.start():
                    deaths_before_loaded += 1
                    self._metrics.rank_died()
                else:
                    deaths_before_loaded, waits = 0, pauses()
                    _log.info("ranks %s serve %s", group.pids, self.loaded.architecture)
                    await group.serve()
            finally:
                self._group = None
                self._on_ready(False)
                await group.stop()
            self._metrics.step_done(idle_step(0))
            if deaths_before_loaded == _MOST_DEATHS_BEFORE_LOADED:
                raise RankKeepsDying(
                    f"ranks died {deaths_before_loaded} times in a row before their model was loaded, the last time "
                    f"with exit code {group.exit_code}; the log says why"
                )
            pause = next(waits)
            _log.error("no rank is left, the last exit code was %d; starting again in %.0f s", group.exit_code, pause)
            await asyncio.sleep(pause)

    def _ready(self, ready: bool) -> None:
        loaded = None if self._group is None else self._group.loaded
        if ready and loaded is not None and loaded is not self._loaded:
            self._loaded = loaded
            self._metrics.loaded(loaded)
            self._metrics.step_done(idle_step(loaded.kv_cache_tokens))
        self._on_ready(ready)

    async def _keep_reading_settings(self) -> None:
        while True:
            await asyncio.sleep(_SETTINGS_SECONDS)
            self._read_settings()

    def _read_settings(self) -> None:
        """What the group should be like may change while it runs."""
        size, redundant = self._config.size, self._config.redundant_experts
        if self._config.settings is not None:
            try:
                told = json.loads(self._config.settings.read_bytes())
                size, redundant = int(told["expert"]), int(told["redundantExperts"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                # It is being written, or is not there yet.
                _log.warning("%s can not be read: %r", self._config.settings, error)
                return
        if (size, redundant) != (self._state.size, self._state.redundant):
            self._become(replace(self._state, size=size, redundant=redundant))

    def _become(self, state: PodState) -> None:
        self._state = state
        if self._group is not None:
            self._group.become(state)
