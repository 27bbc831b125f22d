"""Keeps a rank running, and says whether there is one.

A rank that dies is started again without the pod, after a pause that doubles with each death in a row. A rank that says
that its model can not be served ends the whole runtime: starting again would not help. So does one that dies again and
again before it has loaded: whoever started the runtime must see that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from openmodel_runtime.config import EngineConfig
from openmodel_runtime.errors import RuntimeFault, StartError, Unavailable
from openmodel_runtime.rank.client import RankClient
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
    """The rank of this pod. `run` keeps it alive; `client` is the running one."""

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
        self._client: RankClient | None = None
        self._loaded: Loaded | None = None

    @property
    def client(self) -> RankClient:
        """The running rank; Unavailable while there is none."""
        if self._client is None:
            raise Unavailable("the model is loading")
        return self._client

    @property
    def loaded(self) -> Loaded:
        """What the rank loaded; Unavailable before the first load."""
        if self._loaded is None:
            raise Unavailable("the model is loading")
        return self._loaded

    async def run(self) -> None:
        """Starts the rank again and again; ends only by cancellation, RankStartError or RankKeepsDying."""
        pause = _FIRST_PAUSE_SECONDS
        deaths_before_loaded = 0
        while True:
            client = RankClient(self._metrics.step_done)
            try:
                outcome = await client.start(self._model_path, self._engine)
                if isinstance(outcome, StartFailed):
                    raise RankStartError(outcome.reason, outcome.message)
                if outcome is None:
                    deaths_before_loaded += 1
                else:
                    deaths_before_loaded = 0
                    self._loaded, self._client, pause = outcome, client, _FIRST_PAUSE_SECONDS
                    _log.info("rank %d serves %s", client.pid, outcome.architecture)
                    self._metrics.loaded(outcome)
                    self._metrics.step_done(_idle(free_tokens=outcome.kv_cache_tokens))
                    self._on_ready(True)
                await client.serve()
                self._lose_client()
                code = await client.exit_code()
            finally:
                self._lose_client()
                await client.stop()
            self._metrics.rank_died()
            self._metrics.step_done(_idle(free_tokens=0))
            if deaths_before_loaded == _MOST_DEATHS_BEFORE_LOADED:
                raise RankKeepsDying(
                    f"the rank died {deaths_before_loaded} times in a row before its model was loaded, the last time "
                    f"with exit code {code}; its log says why"
                )
            _log.error("rank ended with exit code %d; starting it again in %.0f s", code, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _lose_client(self) -> None:
        self._client = None
        self._on_ready(False)


def _idle(free_tokens: int) -> StepDone:
    """What the metrics are told while no step has run."""
    return StepDone(outputs=[], running=0, waiting=0, free_tokens=free_tokens)
