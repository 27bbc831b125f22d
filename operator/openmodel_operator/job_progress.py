"""How far a Job that looks at or fetches a checkpoint has come, from the Job and its pods.

Pure: reads them as the Job controller and the kubelet write them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from openmodel_operator import names
from openmodel_operator.failures import Failure, worst_failure
from openmodel_operator.reasons import Reason
from openmodel_operator.spec import Manifest


@dataclass(frozen=True, slots=True)
class Fetched:
    """What has come of a checkpoint."""

    count: int
    """Bytes."""
    total: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a Job is for, in words."""

    reason: Reason
    """While it goes on: Inspecting or Fetching."""
    does: str
    done: str
    """What could not be done, when it failed."""
    failed: Reason


INSPECTION = Task(Reason.INSPECTING, "finds out what the checkpoint is", "inspected", Reason.INSPECTION_FAILED)
VERIFICATION = Task(
    Reason.INSPECTING, "reads the whole checkpoint for its digest", "verified", Reason.INSPECTION_FAILED
)
FETCH = Task(Reason.FETCHING, "fetches the checkpoint", "fetched", Reason.FETCH_FAILED)


@dataclass(frozen=True, slots=True)
class Underway:
    """It goes on."""

    reason: Reason
    """Inspecting or Fetching."""
    message: str
    failure: Failure | None = None
    """What keeps it from going on."""
    fetched: Fetched | None = None
    """How far a fetch has come."""


@dataclass(frozen=True, slots=True)
class Found:
    """It went through."""

    summary: str


def underway(job: Manifest, task: Task, failure: Failure | None = None) -> Underway:
    """A Job that was made, or is there."""
    return Underway(task.reason, f"Job {job['metadata']['name']} {task.does}", failure)


def look_at_job(
    job: Manifest, pods: Sequence[Manifest], task: Task, source: str, complaints: Sequence[Failure] = ()
) -> Found | Underway | Failure:
    """What has come of the Job: what it found, that it goes on, or why it failed."""
    for ended in (state for pod in pods for state in _ended(pod)):
        if ended.get("exitCode") == 0:
            return Found(str(ended.get("message", "")))
    failure = worst_failure(pods, source, complaints)
    failed = [item for item in job.get("status", {}).get("conditions", []) if _is_failed(item)]
    if not failed:
        return underway(job, task, failure)
    if failure is not None and failure.terminal:
        return failure
    told = failure.message if failure else failed[0].get("message", "")
    return Failure(
        component=job["metadata"]["name"],
        reason=task.failed,
        message=f"the checkpoint can not be {task.done}: {told}",
        exit_code=failure.exit_code if failure else None,
    )


def read_progress(log: str) -> Fetched | None:
    """What the last lines of a fetch's log say of it."""
    for line in reversed(log.splitlines()):
        try:
            told = json.loads(line)
            return Fetched(int(told["fetched"]), int(told["total"]))
        except (ValueError, KeyError, TypeError):
            continue
    return None


def _is_failed(condition: Manifest) -> bool:
    return bool(condition["type"] == "Failed" and condition["status"] == "True")


def _ended(pod: Manifest) -> list[Manifest]:
    """How our container ended, if it has: the pod's own phase follows later, and there may be others in it."""
    statuses = pod.get("status", {}).get("containerStatuses", [])
    states = [status.get("state", {}) for status in statuses if status.get("name") == names.FETCH_CONTAINER]
    return [state["terminated"] for state in states if "terminated" in state]
