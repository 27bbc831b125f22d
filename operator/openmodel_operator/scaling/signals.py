"""What a model has to do, from what is there of it and what its pods and the routers say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from openmodel_operator.cluster import ModelKey
from openmodel_operator.observed import Observed, is_ready
from openmodel_operator.probe import AskLoad
from openmodel_operator.scaling.decision import Demand
from openmodel_operator.scaling.load import ModelLoad, together
from openmodel_operator.spec import Manifest

Held = Callable[[ModelKey], int]
"""Calls to a model that routers hold."""


class Signals:
    """Knows whom to ask."""

    def __init__(self, ask: AskLoad, held: Held) -> None:
        self._ask = ask
        self.held = held

    async def demand(self, key: ModelKey, replicas: int, max_num_seqs: int, observed: Observed) -> Demand:
        """What a model has to do now; `max_num_seqs` is what a rank takes at once."""
        serving = observed.serving_revision()
        ready = observed.ready_groups(serving)
        reports = observed.reports_of(serving).values()
        return Demand(
            replicas=replicas,
            ready=ready,
            settled=ready == replicas == len(observed.stateful_sets),
            load=await self._load(observed.pods_of(serving)) if ready else None,
            held=self.held(key),
            max_num_seqs=max_num_seqs,
            imbalance=max((report.imbalance for report in reports), default=0.0),
        )

    async def _load(self, pods: list[Manifest]) -> ModelLoad | None:
        there = [pod["status"]["podIP"] for pod in pods if is_ready(pod)]
        return together(await asyncio.gather(*map(self._ask, there)))
