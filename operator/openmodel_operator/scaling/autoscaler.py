"""Decides how many groups a model has, and writes the count through the scale subresource.

Knows what was wanted before; the decision is `decision`'s. Forgets all when this operator begins to
lead: whoever led before may have seen more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from openmodel_operator.cluster import Cluster, ModelKey
from openmodel_operator.desired.identity import Identity
from openmodel_operator.events import scaling_event
from openmodel_operator.kube import KubeError
from openmodel_operator.observed import Observed
from openmodel_operator.scaling.decision import Decision, Memory, Tempo, decide
from openmodel_operator.scaling.history import Scaling, holds_back, is_contested, with_decision, with_foreign
from openmodel_operator.scaling.signals import Signals
from openmodel_operator.spec import Manifest, OpenModelSpec

_log = logging.getLogger(__name__)


class Autoscaler:
    """Scales the models that ask for it."""

    def __init__(
        self,
        cluster: Cluster,
        signals: Signals,
        tempo: Tempo,
        scaled: Callable[[str, str, int, int, str], None] = lambda *_: None,
    ) -> None:
        """`scaled` is told of each change of a count: namespace and name, from, to, and why."""
        self._scaled = scaled
        self._cluster = cluster
        self._signals = signals
        self._tempo = tempo
        self._memories: dict[ModelKey, Memory] = {}
        self._written: dict[ModelKey, int] = {}

    def forget(self, namespace: str, name: str) -> None:
        """The model is gone, or is not scaled here."""
        self._memories.pop((namespace, name), None)
        self._written.pop((namespace, name), None)

    def forget_all(self) -> None:
        """What was seen so far may not be all that there was."""
        self._memories.clear()
        self._written.clear()

    async def scale(
        self, identity: Identity, model: Manifest, spec: OpenModelSpec, observed: Observed
    ) -> Scaling | None:
        """The count from now on, which has been written; None for a model that is not scaled here."""
        key = (identity.namespace, identity.name)
        if spec.autoscaling is None or spec.suspend:
            self.forget(*key)
            return None
        now, moment = datetime.now(UTC), time.monotonic()
        # What was written here last may not stand in the status yet.
        known = (self._written.get(key), model.get("status", {}).get("scaling", {}).get("desired"))
        history = with_foreign(model.get("status", {}).get("scaling", {}), spec.replicas, known, now)
        demand = await self._signals.demand(key, spec.replicas, spec.engine.max_num_seqs, observed)
        decision, memory = decide(spec.autoscaling, demand, self._memories.get(key, Memory()), moment, self._tempo)
        if holds_back(history, now) and not (demand.held and not spec.replicas):
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
        key = (model["metadata"]["namespace"], model["metadata"]["name"])
        self._written[key] = decision.replicas
        self._scaled(*key, before, decision.replicas, decision.reason)
        try:
            await self._cluster.create_event(scaling_event(model, before, decision.replicas, decision.reason, now))
        except KubeError as error:
            # It was done all the same, and stands in the status.
            _log.warning("%s/%s: an Event was not posted: %s", *key, error)
        return True
