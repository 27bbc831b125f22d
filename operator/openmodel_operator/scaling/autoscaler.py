"""Decides how many groups a model has, and writes the count through the scale subresource.

Knows what was wanted before; the decision is `decision`'s. Forgets all when this operator begins to
lead: whoever led before may have seen more.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from openmodel_operator.cluster import Cluster, ModelKey
from openmodel_operator.desired.identity import Identity
from openmodel_operator.events import scaling_event
from openmodel_operator.observed import Observed
from openmodel_operator.scaling.decision import Decision, Memory, Tempo, decide
from openmodel_operator.scaling.history import Scaling, holds_back, is_contested, with_decision, with_foreign
from openmodel_operator.scaling.signals import Signals
from openmodel_operator.spec import Manifest, OpenModelSpec


class Autoscaler:
    """Scales the models that ask for it."""

    def __init__(self, cluster: Cluster, signals: Signals, tempo: Tempo) -> None:
        self._cluster = cluster
        self._signals = signals
        self._tempo = tempo
        self._memories: dict[ModelKey, Memory] = {}

    def forget(self, namespace: str, name: str) -> None:
        """The model is gone, or is not scaled here."""
        self._memories.pop((namespace, name), None)

    def forget_all(self) -> None:
        """What was seen so far may not be all that there was."""
        self._memories.clear()

    async def scale(
        self, identity: Identity, model: Manifest, spec: OpenModelSpec, observed: Observed
    ) -> Scaling | None:
        """The count from now on, which has been written; None for a model that is not scaled here."""
        key = (identity.namespace, identity.name)
        if spec.autoscaling is None or spec.suspend:
            self.forget(*key)
            return None
        now, moment = datetime.now(UTC), time.monotonic()
        before = model.get("status", {}).get("scaling", {})
        history = with_foreign(before, spec.replicas, now)
        decision, memory = decide(
            spec.autoscaling,
            await self._signals.demand(key, spec.replicas, spec.engine.max_num_seqs, observed),
            self._memories.get(key, Memory(since=moment)),
            moment,
            self._tempo,
        )
        if holds_back(history, now):
            decision = Decision(spec.replicas, decision.reason)
        if decision.replicas != spec.replicas and not await self._write(model, spec.replicas, decision, now):
            decision = Decision(spec.replicas, "the model was changed meanwhile")
        else:
            self._memories[key] = memory
        history = with_decision(history, spec.replicas, decision, now)
        return Scaling(spec.autoscaling, decision, history, is_contested(history, now))

    async def _write(self, model: Manifest, before: int, decision: Decision, now: datetime) -> bool:
        if not await self._cluster.scale(model, decision.replicas):
            return False
        await self._cluster.create_event(scaling_event(model, before, decision.replicas, decision.reason, now))
        return True
