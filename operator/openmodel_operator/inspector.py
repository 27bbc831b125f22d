"""Finds out what the checkpoints of models are, and whether they fit what is asked for.

Knows the order of things; the Job is `recorded_jobs`', and whether the model fits `model_plan`'s.
"""

from __future__ import annotations

from openmodel_operator.desired.fetch_jobs import inspection_job, record_name
from openmodel_operator.desired.identity import Identity
from openmodel_operator.failures import Failure
from openmodel_operator.inspection import Inspection, read_summary
from openmodel_operator.job_progress import INSPECTION, Underway
from openmodel_operator.kube import KubeError
from openmodel_operator.model_plan import Unplannable, plan_model
from openmodel_operator.outlook import Blocked, Known, Outlook, in_the_way
from openmodel_operator.recorded_jobs import RecordedJobs, refused
from openmodel_operator.spec import OpenModelSpec


class Inspector:
    """Looks, and remembers what it saw of the models that are there."""

    def __init__(self, jobs: RecordedJobs, runtime_image: str) -> None:
        self._jobs = jobs
        self._image = runtime_image
        self._known: dict[Identity, tuple[str, Inspection]] = {}

    async def outlook(self, identity: Identity, spec: OpenModelSpec) -> Outlook:
        """What is known of the model; KubeError when the API server is away."""
        job = inspection_job(identity, spec, self._image)
        name = record_name(job)
        known = self._known.get(identity)
        if known is None or known[0] != name:
            try:
                looked = await self._jobs.result(identity, job, INSPECTION, spec.source, read_summary)
            except KubeError as error:
                return refused(error, "the inspection", planned=False)
            if isinstance(looked, Underway):
                return looked
            if isinstance(looked, Failure):
                return in_the_way(looked, planned=False)
            known = self._known[identity] = (name, looked)
        planned = plan_model(spec, known[1])
        if isinstance(planned, Unplannable):
            return Blocked(planned.reason, planned.message, planned=False, inspection=known[1])
        return Known(known[1], planned)

    def forget(self, namespace: str, name: str) -> None:
        """The model is gone."""
        for identity in [item for item in self._known if (item.namespace, item.name) == (namespace, name)]:
            del self._known[identity]
