"""How far the inspection of a checkpoint has come, from its Job and the Job's pods.

Pure: reads them as the Job controller and the kubelet write them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openmodel_operator.failures import Failure, worst_failure
from openmodel_operator.inspection import Inspection, SummaryError, read_summary
from openmodel_operator.reasons import Reason
from openmodel_operator.spec import Manifest


@dataclass(frozen=True, slots=True)
class Inspecting:
    """Nothing is known of the checkpoint yet."""

    message: str
    failure: Failure | None = None
    """What keeps the inspection from going on."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """The inspection went through; nobody has kept it yet."""

    summary: str
    inspection: Inspection


def look_at_job(job: Manifest, pods: Sequence[Manifest], source: str) -> Inspected | Inspecting | Failure:
    """What has come of the Job: what it found, that it goes on, or why it failed."""
    name = job["metadata"]["name"]
    try:
        for ended in (state for pod in pods for state in _ended(pod)):
            if ended.get("exitCode") == 0:
                summary = str(ended.get("message", ""))
                return Inspected(summary, read_summary(summary))
    except SummaryError as error:
        return Failure(component=name, reason=Reason.INSPECTION_FAILED, message=str(error))
    failure = worst_failure(pods, source)
    failed = [item for item in job.get("status", {}).get("conditions", []) if _is_failed(item)]
    if not failed:
        return Inspecting(f"Job {name} finds out what the checkpoint is", failure)
    if failure is not None and failure.terminal:
        return failure
    told = failure.message if failure else failed[0].get("message", "")
    return Failure(
        component=name,
        reason=Reason.INSPECTION_FAILED,
        message=f"the checkpoint can not be inspected: {told}",
        exit_code=failure.exit_code if failure else None,
    )


def _is_failed(condition: Manifest) -> bool:
    return bool(condition["type"] == "Failed" and condition["status"] == "True")


def _ended(pod: Manifest) -> list[Manifest]:
    """How its containers ended, of those that have: the pod's own phase follows later."""
    statuses = pod.get("status", {}).get("containerStatuses", [])
    return [status["state"]["terminated"] for status in statuses if "terminated" in status.get("state", {})]
