"""The way of calls to models that no pod serves: to the routers, at a port of the model's own."""

from __future__ import annotations

import logging
from dataclasses import replace

from openmodel_operator import names
from openmodel_operator.cluster import Cluster
from openmodel_operator.desired.identity import Identity, owned_by
from openmodel_operator.desired.router_slice import port_of, router_slice
from openmodel_operator.observed import Observed, is_ready
from openmodel_operator.rollout import ActionPlan
from openmodel_operator.router_ports import RouterPorts
from openmodel_operator.spec import Manifest, OpenModelSpec

_log = logging.getLogger(__name__)


class ColdRoutes:
    """Keeps each model's port, and says when its calls go to the routers."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._ports = RouterPorts()
        self._learned = False

    def forget(self, namespace: str, name: str) -> None:
        """The model is gone."""
        self._ports.forget((namespace, name))

    def forget_all(self) -> None:
        """Another operator may have given ports meanwhile."""
        self._ports, self._learned = RouterPorts(), False

    def with_route(
        self, actions: ActionPlan, identity: Identity, spec: OpenModelSpec, observed: Observed
    ) -> ActionPlan:
        """The step, and before anything ends the way of the calls that would find no pod."""
        key = (identity.namespace, identity.name)
        there = [item for item in self._cluster.children(_KIND, *key) if owned_by(item, identity.uid)]
        if spec.suspend or not spec.routed_when_cold or not self._cluster.has_routers:
            # Calls fail at once, as nothing would wake for them.
            self._ports.forget(key)
            return replace(actions, delete=[*actions.delete, *there])
        self._learn()
        port = self._ports.give(key)
        if port is None:
            _log.error("%s/%s: no port is left at the routers: calls fail while it is cold", *key)
            return actions
        routers = self._cluster.routers() if is_cold(actions, observed) else []
        answers = actions.serving == actions.revision
        return replace(actions, apply=[*actions.apply, router_slice(identity, port, routers, answers=answers)])

    def _learn(self) -> None:
        """What is known of all, before the first is given a port."""
        if self._learned:
            return
        self._learned = True
        self._ports.learn(
            ((item["metadata"]["namespace"], _model(item)), port)
            for item in self._cluster.all(_KIND)
            if item["metadata"].get("ownerReferences") and _model(item) and (port := port_of(item)) is not None
        )


_KIND = "EndpointSlice"


def is_cold(actions: ActionPlan, observed: Observed) -> bool:
    """Whether no pod will take calls after a step."""
    ends = {item["metadata"]["name"] for item in actions.delete if item["kind"] == "StatefulSet"}
    makers = {item["metadata"]["uid"] for item in observed.stateful_sets if item["metadata"]["name"] not in ends}
    return not any(is_ready(pod) and owned_by(pod, *makers) for pod in observed.pods_of(actions.serving))


def _model(item: Manifest) -> str:
    return str((item["metadata"].get("labels") or {}).get(names.MODEL_LABEL, ""))
