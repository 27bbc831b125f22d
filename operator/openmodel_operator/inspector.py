"""Finds out what the checkpoints of models are: one Job a namespace and source, whose summary a ConfigMap keeps.

Knows the order of things; how far a Job has come is `inspecting`'s to say, and whether the model fits `model_plan`'s.
"""

from __future__ import annotations

import logging
from collections import defaultdict

from openmodel_operator import names
from openmodel_operator.desired.identity import Identity
from openmodel_operator.desired.inspection import inspection_job, inspection_key, inspection_name, inspection_record
from openmodel_operator.failures import Failure
from openmodel_operator.inspecting import Inspected, Inspecting, look_at_job
from openmodel_operator.inspection import Inspection, SummaryError, read_summary
from openmodel_operator.kube import Kube, KubeError
from openmodel_operator.model_plan import Unplannable, plan_model
from openmodel_operator.outlook import Blocked, Known, Outlook
from openmodel_operator.reasons import Reason
from openmodel_operator.spec import Manifest, OpenModelSpec

_log = logging.getLogger(__name__)


class Inspector:
    """Looks, and remembers what it saw of the models that are there."""

    def __init__(self, kube: Kube, runtime_image: str) -> None:
        self._kube = kube
        self._image = runtime_image
        self._known: dict[Identity, tuple[str, Inspection]] = {}
        self._waiting: dict[str, set[Identity]] = defaultdict(set)

    async def outlook(self, identity: Identity, spec: OpenModelSpec) -> Outlook:
        """What is known of the model; KubeError when the API server is away."""
        key = inspection_key(spec, self._image)
        known = self._known.get(identity)
        if known is None or known[0] != key:
            try:
                looked = await self._look(identity, spec, key)
            except KubeError as error:
                if not error.permanent:
                    raise
                told = f"the API server refused the inspection: {error}"
                return Blocked(Reason.APPLY_REJECTED, told, planned=False)
            if not isinstance(looked, Inspection):
                self._waiting[key].add(identity)
                return _in_the_way(looked) if isinstance(looked, Failure) else looked
            known = self._known[identity] = (key, looked)
            self._waiting.pop(key, None)
        planned = plan_model(spec, known[1])
        if isinstance(planned, Unplannable):
            return Blocked(planned.reason, planned.message, planned=False, inspection=known[1])
        return Known(known[1], planned)

    def forget(self, namespace: str, name: str) -> None:
        """The model is gone."""
        for identity in [item for item in self._known if (item.namespace, item.name) == (namespace, name)]:
            del self._known[identity]

    def waiting_for(self, key: str) -> set[tuple[str, str]]:
        """Namespaces and names of the models that wait for an inspection."""
        return {(identity.namespace, identity.name) for identity in self._waiting.get(key, ())}

    async def _look(self, identity: Identity, spec: OpenModelSpec, key: str) -> Inspection | Inspecting | Failure:
        name = inspection_name(key)
        record = await self._kube.get("v1", "ConfigMap", identity.namespace, name)
        if record is not None and (kept := _kept(record)) is not None:
            if not any(owner["uid"] == identity.uid for owner in record["metadata"].get("ownerReferences", [])):
                await self._keep(identity, key, record["data"][names.INSPECTION_SUMMARY])
            return kept
        job = await self._kube.get("batch/v1", "Job", identity.namespace, name)
        if job is None:
            await self._kube.apply(inspection_job(identity, spec, self._image))
            return Inspecting(f"Job {name} finds out what the checkpoint is")
        pods = await self._kube.list("v1", "Pod", identity.namespace, {names.INSPECTION_LABEL: key})
        looked = look_at_job(job, pods, spec.source)
        if isinstance(looked, Inspected):
            await self._keep(identity, key, looked.summary)
            return looked.inspection
        return looked

    async def _keep(self, identity: Identity, key: str, summary: str) -> None:
        # Each model applies it in its own name: that adds an owner, and takes none away.
        manager = f"{names.FIELD_MANAGER}-{identity.uid}"
        await self._kube.apply(inspection_record(identity, key, summary), manager)


def _in_the_way(failure: Failure) -> Blocked:
    again = "it is tried again every ten minutes"
    message = f"{failure.message}; {again}" if failure.terminal else f"{failure.message} ({again})"
    return Blocked(failure.reason, message, planned=False, failure=failure, terminal=failure.terminal)


def _kept(record: Manifest) -> Inspection | None:
    try:
        return read_summary(record.get("data", {}).get(names.INSPECTION_SUMMARY, ""))
    except SummaryError as error:
        _log.warning("ConfigMap %s is made anew: %s", record["metadata"]["name"], error)
        return None
