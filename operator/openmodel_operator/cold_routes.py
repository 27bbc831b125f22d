"""The way of calls to models that no pod serves: to the routers, at a port of the model's own."""

from __future__ import annotations

import logging
from collections.abc import Sequence, Set
from dataclasses import replace

from openmodel_operator import names
from openmodel_operator.cluster import Cluster, NameTaken
from openmodel_operator.desired.identity import Identity, owned_by
from openmodel_operator.desired.router_slice import port_of, router_slice, slice_name
from openmodel_operator.kube import KubeError
from openmodel_operator.observed import Observed
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

    async def keep(self, identity: Identity, spec: OpenModelSpec | None, observed: Observed) -> None:
        """The way of calls as things are, whatever a step will come to; without a spec, the way that there is."""
        slices, live = self._slices(identity)
        routed = live is not None if spec is None else self._is_routed(spec)
        answers = live is not None and live["metadata"].get("annotations", {}).get(names.ANSWERS_ANNOTATION) == "true"
        if routed and (route := self._route(identity, observed, slices, live, frozenset(), answers=answers)):
            try:
                await self._cluster.apply(route)
            except NameTaken as error:
                # The step says so too, when it comes to it.
                _log.warning("%s", error)
            except KubeError as error:
                if not error.permanent:
                    raise
                _log.warning("%s/%s: the API server refused: %s", identity.namespace, identity.name, error)

    def with_route(
        self, actions: ActionPlan, identity: Identity, spec: OpenModelSpec, observed: Observed
    ) -> ActionPlan:
        """The step, and before anything ends the way of the calls that would find no pod."""
        slices, live = self._slices(identity)
        if not self._is_routed(spec):
            # Calls fail at once, as nothing would wake for them.
            self._ports.forget((identity.namespace, identity.name))
            return actions if live is None else replace(actions, delete=[*actions.delete, live])
        ends = frozenset(item["metadata"]["name"] for item in actions.delete if item["kind"] == "StatefulSet")
        answers = actions.serving == actions.revision
        route = self._route(identity, observed, slices, live, ends, answers=answers)
        return actions if route is None else replace(actions, apply=[*actions.apply, route])

    def _is_routed(self, spec: OpenModelSpec) -> bool:
        return spec.routed_when_cold and not spec.suspend and self._cluster.has_routers

    def _slices(self, identity: Identity) -> tuple[list[Manifest], Manifest | None]:
        """All slices that bear the model's label, and of them its own at the routers, if there is one."""
        slices = self._cluster.children(_KIND, identity.namespace, identity.name)
        return slices, next((item for item in slices if owned_by(item, identity.uid)), None)

    def _route(
        self,
        identity: Identity,
        observed: Observed,
        slices: Sequence[Manifest],
        live: Manifest | None,
        ends: Set[str],
        *,
        answers: bool,
    ) -> Manifest | None:
        key = (identity.namespace, identity.name)
        self._learn()
        port = self._ports.give(key)
        if port is None:
            _log.error("%s/%s: no port is left at the routers: calls fail while it is cold", *key)
            return None
        routers = self._cluster.routers(ready=True) if is_cold(identity, slices, ends) else []
        families = (observed.service or {}).get("spec", {}).get("ipFamilies", ["IPv4"])
        family = families[0] if live is None else live["addressType"]
        return router_slice(identity, port, routers, family, answers=answers)

    def _learn(self) -> None:
        """What is known of all, before the first is given a port."""
        if self._learned:
            return
        self._learned = True
        self._ports.learn(
            ((item["metadata"]["namespace"], model), port)
            for item in self._cluster.all(_KIND)
            if (model := _routed_model(item)) and (port := port_of(item)) is not None
        )


_KIND = "EndpointSlice"


def is_cold(identity: Identity, slices: Sequence[Manifest], ends: Set[str]) -> bool:
    """Whether the model's Service leads to no pod, but for those of StatefulSets that are about to end."""
    return not any(
        endpoint.get("conditions", {}).get("ready")
        and endpoint.get("targetRef", {}).get("name", "").rpartition("-")[0] not in ends
        for item in slices
        if item["metadata"]["labels"].get(names.SERVICE_LABEL) == identity.name
        and item["metadata"]["labels"].get(names.SLICE_MAKER_LABEL) != names.COMPONENT
        for endpoint in item.get("endpoints") or []
    )


def _routed_model(item: Manifest) -> str:
    """The model whose slice at the routers it is; "" for another slice, which anybody may make."""
    metadata = item["metadata"]
    labels = metadata.get("labels") or {}
    model = str(labels.get(names.MODEL_LABEL, ""))
    owners = {(owner["kind"], owner["name"]) for owner in metadata.get("ownerReferences", [])}
    ours = labels.get(names.SLICE_MAKER_LABEL) == names.COMPONENT and metadata["name"] == slice_name(model)
    return model if ours and (names.KIND, model) in owners else ""
