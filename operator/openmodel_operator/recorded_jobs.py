"""Jobs that run once, and the ConfigMaps that keep what they found.

Knows the order of things; how far a Job has come is `job_progress`'s to say, and what it found the caller's to read.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar
from weakref import WeakValueDictionary

from openmodel_operator import names
from openmodel_operator.cluster import Cluster
from openmodel_operator.desired.fetch_jobs import record, record_name
from openmodel_operator.desired.identity import Identity, owned_by
from openmodel_operator.failures import Failure
from openmodel_operator.inspection import SummaryError
from openmodel_operator.job_progress import Task, Underway, look_at_job, read_progress, underway
from openmodel_operator.kube import KubeError
from openmodel_operator.outlook import Blocked
from openmodel_operator.reasons import Reason
from openmodel_operator.spec import Manifest

Result = TypeVar("Result")
_log = logging.getLogger(__name__)
_LINES = 20


class RecordedJobs:
    """Those of all models."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._making: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._waiting: dict[str, set[tuple[str, str]]] = defaultdict(set)

    def waiting_for(self, job: str) -> set[tuple[str, str]]:
        """Namespaces and names of the models that wait for a Job of this name."""
        return set(self._waiting.get(job, ()))

    def forget(self, namespace: str, name: str) -> None:
        """The model is gone, and waits for nothing."""
        for job in [job for job, models in self._waiting.items() if (namespace, name) in models]:
            self._done(job, (namespace, name))

    async def result(
        self, identity: Identity, job: Manifest, task: Task, source: str, read: Callable[[str], Result]
    ) -> Result | Underway | Failure:
        """What the Job found, once; it is made where it is not there.

        Args:
            identity: the model that wants it.
            job: the Job as it should be.
            task: what it is for.
            source: what the failures of its pods may be about.
            read: reads the summary; SummaryError when it is none.
        """
        name, model = job["metadata"]["name"], (identity.namespace, identity.name)
        kept = await self._cluster.get("v1", "ConfigMap", identity.namespace, record_name(job))
        if kept is not None:
            summary = str(kept.get("data", {}).get(names.JOB_SUMMARY, ""))
            try:
                found = read(summary)
            except SummaryError as error:
                _log.warning("ConfigMap %s is made anew: %s", record_name(job), error)
            else:
                if not owned_by(kept, identity.uid):
                    await self._keep(identity, job, summary)
                self._done(name, model)
                return found
        self._waiting[name].add(model)
        # Of many models that come at once, one makes it.
        async with self._making.setdefault((identity.namespace, name), asyncio.Lock()):
            present = await self._cluster.get("batch/v1", "Job", identity.namespace, name)
            if present is None:
                await self._cluster.share(job, names.FIELD_MANAGER)
                return underway(job, task)
        labelled = self._cluster.job_pods(identity.namespace, name)
        # Labels anybody can write.
        pods = [pod for pod in labelled if owned_by(pod, present["metadata"]["uid"])]
        complaints = await self._cluster.complaints([present], pods)
        looked = look_at_job(present, pods, task, source, [*complaints.values()])
        if isinstance(looked, Underway):
            return await self._with_progress(looked, pods)
        if isinstance(looked, Failure):
            return looked
        try:
            found = read(looked.summary)
        except SummaryError as error:
            return Failure(component=name, reason=task.failed, message=str(error))
        await self._keep(identity, job, looked.summary)
        return found

    def _done(self, job: str, model: tuple[str, str]) -> None:
        self._waiting[job].discard(model)
        if not self._waiting[job]:
            del self._waiting[job]

    async def _with_progress(self, job: Underway, pods: Sequence[Manifest]) -> Underway:
        running = [pod for pod in pods if pod.get("status", {}).get("phase") == "Running"]
        if job.reason is not Reason.FETCHING or not running:
            return job
        metadata = running[0]["metadata"]
        log = await self._cluster.log(metadata["namespace"], metadata["name"], _LINES)
        return replace(job, fetched=read_progress(log))

    async def _keep(self, identity: Identity, job: Manifest, summary: str) -> None:
        await self._cluster.share(record(identity, job, summary), shared_by(identity))


def refused(error: KubeError, what: str, *, planned: bool) -> Blocked:
    """What an API server's no comes to; raises the error when it may yet say yes. See `Blocked` for `planned`."""
    if not error.permanent:
        raise error
    return Blocked(Reason.APPLY_REJECTED, f"the API server refused {what}: {error}", planned)


def shared_by(identity: Identity) -> str:
    """The field manager of one of several owners: what it applies adds an owner, and takes none away."""
    return f"{names.FIELD_MANAGER}-{identity.uid}"
