"""Has checkpoints fetched that nothing can mount: into a claim, by one Job a namespace and commit. And has those that
are mounted as they are read for their digest, where one is pinned.

Knows the order of things; the Job is `recorded_jobs`'.
"""

from __future__ import annotations

import json

from openmodel_operator.cluster import Cluster
from openmodel_operator.desired.fetch_jobs import claim_name, fetch_job, owned_claim, verification_job, weights_claim
from openmodel_operator.desired.identity import Identity, owned_by
from openmodel_operator.desired.source import claim_of
from openmodel_operator.failures import Failure
from openmodel_operator.inspection import Inspection, SummaryError
from openmodel_operator.job_progress import FETCH, VERIFICATION, Underway
from openmodel_operator.kube import KubeError
from openmodel_operator.outlook import Blocked, in_the_way
from openmodel_operator.reasons import Reason
from openmodel_operator.recorded_jobs import RecordedJobs, refused, shared_by
from openmodel_operator.settings import Settings
from openmodel_operator.spec import Manifest, OpenModelSpec


class Fetcher:
    """Fetches, and keeps nothing in mind: claims and records say what is there."""

    def __init__(self, cluster: Cluster, jobs: RecordedJobs, settings: Settings) -> None:
        self._cluster = cluster
        self._jobs = jobs
        self._settings = settings

    async def fetched(
        self, identity: Identity, spec: OpenModelSpec, inspection: Inspection
    ) -> str | Underway | Blocked:
        """The digest of the checkpoint once its claim has all of it; KubeError when the API server is away."""
        try:
            claim = await self._claim(identity, spec, inspection)
            if claim is not None and "deletionTimestamp" in claim["metadata"]:
                told = (
                    f"claim {claim['metadata']['name']} is being deleted: the checkpoint is fetched into another after"
                )
                return Underway(Reason.FETCHING, told)
            if claim is None:
                return Blocked(
                    Reason.CACHE_NOT_FOUND,
                    f"spec.model.cache.persistentVolumeClaim: namespace {identity.namespace} has no claim "
                    f"{spec.fetch.claim}: make it, or leave the field out to get one",
                    planned=True,
                )
            job = fetch_job(identity, spec, self._settings.runtime_image, claim, inspection.commit)
            looked = await self._jobs.result(identity, job, FETCH, spec.source, _digest)
        except KubeError as error:
            return refused(error, "the fetch", planned=True)
        return in_the_way(looked, planned=True) if isinstance(looked, Failure) else looked

    async def verified(self, identity: Identity, spec: OpenModelSpec, digest: str) -> str | Underway | Blocked:
        """This digest once a Job has found the checkpoint to have it; KubeError when the API server is away."""
        try:
            name = claim_of(spec)
            claim = name and await self._cluster.get("v1", "PersistentVolumeClaim", identity.namespace, name)
            job = verification_job(identity, spec, self._settings.runtime_image, digest, claim or None)
            looked = await self._jobs.result(identity, job, VERIFICATION, spec.source, _digest)
        except KubeError as error:
            return refused(error, "the verification", planned=True)
        return in_the_way(looked, planned=False) if isinstance(looked, Failure) else looked

    async def _claim(self, identity: Identity, spec: OpenModelSpec, inspection: Inspection) -> Manifest | None:
        name = claim_name(spec, inspection.commit)
        found = await self._cluster.get("v1", "PersistentVolumeClaim", identity.namespace, name)
        if spec.fetch.claim is not None:
            return found
        if found is None:
            size, settings = inspection.download_bytes, self._settings
            wanted = weights_claim(
                identity, spec, inspection.commit, size, settings.cache_access_mode, settings.cache_storage_class
            )
            found = await self._cluster.share(wanted, shared_by(identity))
        elif not owned_by(found, identity.uid):
            found = await self._cluster.share(owned_claim(identity, spec, inspection.commit), shared_by(identity))
        return found


def _digest(summary: str) -> str:
    try:
        return str(json.loads(summary)["digest"])
    except (ValueError, KeyError, TypeError) as error:
        raise SummaryError(f"the summary of the fetch can not be read: {error!r}") from None
