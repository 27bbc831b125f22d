"""One OpenModel, looked at once: observe, decide, execute, tell.

Level-triggered: it starts from what is there and may be cut off anywhere. Knows the order of things; what to do is
decided in pure modules, and how to talk to the cluster is `kube`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from openmodel_operator import names
from openmodel_operator.admission import refusals
from openmodel_operator.desired.identity import Identity
from openmodel_operator.events import transition_event
from openmodel_operator.kube import Kube, KubeError
from openmodel_operator.observed import Observed, Proof, is_ready, proof_key
from openmodel_operator.plan import plan_group
from openmodel_operator.reasons import Reason
from openmodel_operator.rollout import ActionPlan, plan_actions
from openmodel_operator.settings import Settings
from openmodel_operator.spec import Manifest, OpenModelSpec, SpecError, parse_spec
from openmodel_operator.status import Blocked, blocked_status, model_status
from openmodel_operator.status_patch import status_patch

_log = logging.getLogger(__name__)
ModelKey = tuple[str, str]
"""Namespace and name."""
Prove = Callable[[str, str, str], Awaitable[Proof]]
"""Address, model and revision to a proof."""


class Controller:
    """Brings OpenModels about, one look at a time."""

    def __init__(self, kube: Kube, settings: Settings, prove: Prove) -> None:
        self._kube = kube
        self._settings = settings
        self._prove = prove
        self._proofs: dict[ModelKey, dict[str, Proof]] = {}

    async def reconcile(self, key: ModelKey) -> None:
        """One look; KubeError when the API server is away, which is a reason to look again."""
        model = await self._kube.get(names.API_VERSION, names.KIND, *key)
        if model is None or "deletionTimestamp" in model["metadata"]:
            # Owner references do the cleaning.
            self._proofs.pop(key, None)
            return
        status = await self._step(key, model)
        await self._tell(model, status)

    async def _step(self, key: ModelKey, model: Manifest) -> Manifest:
        metadata = model["metadata"]
        identity = Identity(metadata["namespace"], metadata["name"], metadata["uid"])
        before, generation = model.get("status", {}), metadata["generation"]
        observed = await self._observe(key, identity)
        spec = _admit(model["spec"], identity, observed)
        if isinstance(spec, Blocked):
            return blocked_status(before, generation, spec, _now())
        plan = plan_group(spec)
        actions = plan_actions(identity, spec, plan, observed, self._settings.runtime_image)
        try:
            await self._execute(actions)
        except KubeError as error:
            if not error.permanent:
                raise
            blocked = Blocked(Reason.APPLY_REJECTED, f"the API server refused: {error}", planned=True)
            return blocked_status(before, generation, blocked, _now())
        return model_status(identity, spec, plan, actions, observed, before, generation, _now())

    async def _observe(self, key: ModelKey, identity: Identity) -> Observed:
        namespace, labels = identity.namespace, identity.selector()
        service, services, stateful_sets, pods = await asyncio.gather(
            self._kube.get("v1", "Service", namespace, identity.name),
            self._kube.list("v1", "Service", namespace, labels),
            self._kube.list("apps/v1", "StatefulSet", namespace, labels),
            self._kube.list("v1", "Pod", namespace, labels),
        )
        return Observed(
            service=service,
            stateful_sets=[item for item in stateful_sets if _owned(item, identity)],
            headless_services=[
                item for item in services if _owned(item, identity) and item["metadata"]["name"] != identity.name
            ],
            pods=pods,
            proofs=await self._prove_pods(key, identity, pods),
        )

    async def _prove_pods(self, key: ModelKey, identity: Identity, pods: list[Manifest]) -> dict[str, Proof]:
        """Proofs of all ready first pods: those known to be good, and new ones for the rest."""
        known = self._proofs.get(key, {})
        ready = {proof_key(pod): pod for pod in pods if is_ready(pod) and _is_first(pod)}
        fresh = [item for item in ready if item not in known or not known[item].ok]
        results = await asyncio.gather(
            *(
                self._prove(
                    ready[item]["status"]["podIP"],
                    identity.name,
                    ready[item]["metadata"]["labels"][names.REVISION_LABEL],
                )
                for item in fresh
            )
        )
        proofs = {item: known[item] for item in ready if item in known}
        proofs |= dict(zip(fresh, results, strict=True))
        self._proofs[key] = proofs
        return proofs

    async def _execute(self, actions: ActionPlan) -> None:
        for manifest in actions.apply:
            await self._kube.apply(manifest)
        for child in actions.delete:
            _log.info("deleting %s %s", child["kind"], child["metadata"]["name"])
            await self._kube.delete(child)

    async def _tell(self, model: Manifest, status: Manifest) -> None:
        before: dict[str, Any] = model.get("status", {})
        patch = status_patch(before, status)
        if not patch:
            return
        await self._kube.patch_status(model, patch)
        event = transition_event(model, before, status, _now())
        if event is not None:
            await self._kube.create_event(event)


def _admit(raw: dict[str, Any], identity: Identity, observed: Observed) -> OpenModelSpec | Blocked:
    refused = refusals(raw)
    if refused:
        text = "; ".join(refusal.message for refusal in refused)
        return Blocked(Reason.UNSUPPORTED_FIELD, text, planned=False)
    if observed.service is not None and not _owned(observed.service, identity):
        return Blocked(
            Reason.SERVICE_NAME_TAKEN,
            f"metadata.name: a Service {identity.name} that is not this OpenModel's is there, and is left alone; "
            "give the OpenModel another name or delete the Service",
            planned=True,
        )
    try:
        return parse_spec(raw)
    except SpecError as error:
        return Blocked(Reason.INVALID_SPEC, str(error), planned=False)


def _owned(child: Manifest, identity: Identity) -> bool:
    owners = child["metadata"].get("ownerReferences", [])
    return any(owner["uid"] == identity.uid for owner in owners)


def _is_first(pod: Manifest) -> bool:
    return bool(pod["metadata"]["labels"].get(names.POD_INDEX_LABEL) == "0")


def _now() -> datetime:
    return datetime.now(UTC)
