"""What Kubernetes complains of in Events, where the status of an object does not tell why nothing comes of it.

Pure: says whose Events to look at, and what they come to. Events are kept for an hour and may be lost, so they explain
what is wrong now, and prove nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from openmodel_operator.conditions import moment
from openmodel_operator.failures import Failure
from openmodel_operator.observed import is_ready
from openmodel_operator.reasons import Reason
from openmodel_operator.spec import Manifest

# What has just been made may take this long without anything being wrong.
_PATIENCE = timedelta(seconds=4)
# What was told longer ago is not what is wrong now. The kubelet tells the same again every five minutes or so, once it
# has told it often; that pods are refused is told again after ever longer pauses.
_FRESH = timedelta(minutes=15)
_FRESH_REFUSAL = timedelta(minutes=20)
_NEVER = "1970-01-01T00:00:00Z"
_STARTING = ("ContainerCreating", "PodInitializing")

_REFUSED = ("FailedCreate",)
_NOT_STARTED = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox")
_NOT_WELL = ("Unhealthy",)

_MEANINGS = {
    "FailedCreate": (
        Reason.PODS_REFUSED,
        "its pods are refused: {}; look at the namespace's ResourceQuota, LimitRange and Pod Security, and at "
        "spec.resources and spec.podTemplate",
    ),
    "FailedMount": (
        Reason.MOUNT_FAILED,
        "a volume can not be mounted: {}; check spec.model.source and the volumes of spec.podTemplate",
    ),
    "FailedAttachVolume": (
        Reason.MOUNT_FAILED,
        "a volume can not be attached to the node: {}; a ReadWriteOnce claim serves the pods of one node",
    ),
    "FailedCreatePodSandBox": (
        Reason.CONTAINER_FAILED,
        "the node can not make the pod's sandbox: {}; look at the node's network plugin and container runtime",
    ),
    "Unhealthy": (Reason.UNHEALTHY, "a probe of the kubelet's fails: {}; see its log (kubectl logs)"),
}


def questionable(
    makers: Iterable[Manifest], pods: Iterable[Manifest], now: datetime
) -> list[tuple[Manifest, Sequence[str]]]:
    """Whose Events to look at, and which count.

    Those of StatefulSets and Jobs without the pods they should have, of pods that do not say why they do not start, and
    of pods that were ready and run on without.
    """
    asked: list[tuple[Manifest, Sequence[str]]] = [(maker, _REFUSED) for maker in makers if _lacks_pods(maker)]
    for pod in pods:
        if "deletionTimestamp" in pod["metadata"] or is_ready(pod):
            continue
        if _is_silent(pod):
            asked.append((pod, _NOT_STARTED))
        elif _was_ready(pod):
            asked.append((pod, _NOT_WELL))
    return [(item, about) for item, about in asked if now - moment(item["metadata"]["creationTimestamp"]) > _PATIENCE]


def complaint(item: Manifest, about: Sequence[str], events: Sequence[Manifest], now: datetime) -> Failure | None:
    """What the newest Event of these reasons says is wrong with an object."""
    lasts = _FRESH_REFUSAL if about is _REFUSED else _FRESH
    known = [
        event
        for event in events
        if event.get("reason") in about and event.get("type") == "Warning" and now - moment(_told_at(event)) < lasts
    ]
    if not known:
        return None
    newest = max(known, key=_told_at)
    reason, words = _MEANINGS[newest["reason"]]
    message = words.format(str(newest.get("message", "")).strip())
    return Failure(component=item["metadata"]["name"], reason=reason, message=message)


def _lacks_pods(maker: Manifest) -> bool:
    status, spec = maker.get("status", {}), maker["spec"]
    if maker["kind"] == "Job":
        return not any(status.get(count) for count in ("active", "succeeded", "failed"))
    return bool(status.get("replicas", 0) < spec.get("replicas", 1))


def _is_silent(pod: Manifest) -> bool:
    """Bound to a node, and no container has come so far that it could tell why it does not run."""
    status = pod.get("status", {})
    if status.get("phase") != "Pending" or not status.get("startTime"):
        # Without a start the kubelet has not taken it up: it is the scheduler's.
        return False
    states = [container.get("state", {}) for container in status.get("containerStatuses", [])]
    return all(state.get("waiting", {}).get("reason") in _STARTING for state in states)


def _was_ready(pod: Manifest) -> bool:
    """Whether it became unready after its container started; while a model loads it has not been ready yet."""
    status = pod.get("status", {})
    told = [item["lastTransitionTime"] for item in status.get("conditions", []) if item["type"] == "Ready"]
    started = [
        container["state"]["running"]["startedAt"]
        for container in status.get("containerStatuses", [])
        if "startedAt" in container.get("state", {}).get("running", {})
    ]
    return bool(told and started) and moment(told[0]) > max(map(moment, started))


def _told_at(event: Manifest) -> str:
    """One that is told again in a series has the time of the last in there."""
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or _NEVER)
