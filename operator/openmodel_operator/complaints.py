"""What Kubernetes complains of in Events, where the status of an object does not tell why nothing comes of it.

Pure: says whose Events to look at, and what they come to. Events are kept for an hour and may be lost, so they explain
what is wrong now, and prove nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from openmodel_operator.failures import Failure
from openmodel_operator.observed import is_ready
from openmodel_operator.reasons import Reason
from openmodel_operator.spec import Manifest

# What has just been made may take this long without anything being wrong.
_PATIENCE = timedelta(seconds=4)
_STARTING = ("ContainerCreating", "PodInitializing")

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


def questionable(makers: Iterable[Manifest], pods: Iterable[Manifest], now: datetime) -> list[Manifest]:
    """StatefulSets and Jobs without the pods they should have, and pods that do not say why they do not start."""
    silent = [*filter(_lacks_pods, makers), *filter(_is_silent, pods)]
    return [item for item in silent if now - _made(item) > _PATIENCE]


def complaint(item: Manifest, events: Sequence[Manifest]) -> Failure | None:
    """What the newest Event that means something says is wrong with an object."""
    known = [event for event in events if event.get("reason") in _MEANINGS and event.get("type") == "Warning"]
    if not known:
        return None
    newest = max(known, key=_told_at)
    reason, words = _MEANINGS[newest["reason"]]
    return Failure(
        component=item["metadata"]["name"],
        reason=reason,
        message=words.format(str(newest.get("message", "")).strip()),
        time=_told_at(newest) or None,
    )


def _lacks_pods(maker: Manifest) -> bool:
    status, spec = maker.get("status", {}), maker["spec"]
    if maker["kind"] == "Job":
        return not any(status.get(count) for count in ("active", "succeeded", "failed"))
    return bool(status.get("replicas", 0) < spec.get("replicas", 1))


def _is_silent(pod: Manifest) -> bool:
    """Bound to a node, not ready, and no container tells why."""
    status: Mapping[str, object] = pod.get("status", {})
    conditions = {item["type"]: item for item in pod.get("status", {}).get("conditions", [])}
    if is_ready(pod) or conditions.get("PodScheduled", {}).get("status") != "True":
        return False
    if status.get("phase") in ("Succeeded", "Failed"):
        return False
    states = [container.get("state", {}) for container in pod.get("status", {}).get("containerStatuses", [])]
    told = (state["waiting"].get("reason") for state in states if "waiting" in state)
    return all(reason in _STARTING for reason in told) and not any("terminated" in state for state in states)


def _made(item: Manifest) -> datetime:
    return datetime.fromisoformat(item["metadata"]["creationTimestamp"])


def _told_at(event: Manifest) -> str:
    """One that is told again in a series has the time of the last in there."""
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")
