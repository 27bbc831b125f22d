"""Keeps the ranks of a pod running, and says whether they are there.

A rank that dies is replaced while the others go on (`RankGroup`). When none is left, all are started again without the
pod, after a pause that doubles with each time in a row. A rank that says that its model can not be served ends the
whole runtime: starting again would not help. So does one that dies again and again before it has loaded: whoever
started the runtime must see that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from openmodel_runtime.config import EngineConfig
from openmodel_runtime.errors import RuntimeFault, Unavailable
from openmodel_runtime.rank.group_client import GroupClient
from openmodel_runtime.rank.messages import Loaded
from openmodel_runtime.rank.rank_group import RankGroup, RankMetrics, idle_step, pauses

_log = logging.getLogger(__name__)
_MOST_DEATHS_BEFORE_LOADED = 3


class RankKeepsDying(RuntimeFault):
    """Ranks died in a row, and none of them had loaded its model."""


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
        waits = pauses()
        deaths_before_loaded = 0
        while True:
            group = RankGroup(self._model_path, self._engine, self._metrics)
            try:
                loaded = await group.start()
                if loaded is None:
                    deaths_before_loaded += 1
                    self._metrics.rank_died()
                else:
                    deaths_before_loaded, waits = 0, pauses()
                    self._loaded, self._client = loaded, group.client
                    _log.info("ranks %s serve %s", group.pids, loaded.architecture)
                    self._metrics.loaded(loaded)
                    self._metrics.step_done(idle_step(loaded.kv_cache_tokens))
                    self._on_ready(True)
                    await group.serve()
            finally:
                self._client = None
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
