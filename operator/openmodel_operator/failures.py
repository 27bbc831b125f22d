"""What is wrong with a model's pods, in words that name the field and the remedy.

Pure: reads pod status as the kubelet and the scheduler write it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from openmodel_operator import names
from openmodel_operator.desired.source import image_repository
from openmodel_operator.reasons import Reason
from openmodel_operator.spec import Manifest

_PULL_REASONS = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "ErrInvalidImageName",
}
_CONTAINER_REASONS = {"CreateContainerError", "CreateContainerConfigError", "RunContainerError"}
_REMEDIES = {
    Reason.INVALID_CHECKPOINT: "spec.model.source must name a Hugging Face checkpoint in safetensors",
    Reason.UNSUPPORTED_MODEL: "spec.model.source must name a model of a supported architecture",
    Reason.INSUFFICIENT_MEMORY: "change spec.engine.maxModelLen or spec.resources",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a pod does not serve."""

    component: str
    reason: Reason
    message: str
    exit_code: int | None = None
    terminal: bool = False
    """True: only a change of the spec or of the source helps."""
    time: str | None = None
    """When a container ended, as the kubelet wrote it."""


def worst_failure(pods: Iterable[Manifest], source: str, complaints: Iterable[Failure] = ()) -> Failure | None:
    """The failure that the user should hear of: a terminal one before a passing one, and last what Events tell."""
    found = [failure for pod in pods if (failure := pod_failure(pod, source)) is not None]
    found += complaints
    return next((failure for failure in found if failure.terminal), found[0] if found else None)


def pod_failure(pod: Manifest, source: str) -> Failure | None:
    """What keeps one pod from serving, or None while nothing does."""
    status = pod.get("status", {})
    name = pod["metadata"]["name"]
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return Failure(
                component=name,
                reason=Reason.UNSCHEDULABLE,
                message=f"no node takes the pod: {condition.get('message', '')}; "
                "change spec.resources or spec.podTemplate, or add nodes",
            )
    for container in status.get("containerStatuses", []):
        failure = _container_failure(name, container, source)
        if failure is not None:
            return failure
    return None


def _container_failure(pod: str, status: Manifest, source: str) -> Failure | None:
    waiting = status.get("state", {}).get("waiting", {})
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in _PULL_REASONS:
        return _pull_failure(pod, message or reason, source)
    if reason in _CONTAINER_REASONS:
        return Failure(
            component=pod,
            reason=Reason.CONTAINER_FAILED,
            message=f"the container can not be created: {message or reason}",
        )
    ended = status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated")
    if ended and not status.get("ready"):
        return _ended(pod, ended)
    return None


def _pull_failure(pod: str, message: str, source: str) -> Failure:
    image = source.removeprefix("oci://")
    # The kubelet's message names the image by its tag or, where the revision pins it, by its digest.
    is_model = source.startswith("oci://") and image_repository(image) in message
    subject, remedy = (
        (f"spec.model.source: the image {image}", "check its name, tag and registry")
        if is_model
        else ("the runtime's image", "check the chart's values or spec.podTemplate")
    )
    return Failure(
        component=pod,
        reason=Reason.IMAGE_PULL_FAILED,
        message=f"{subject} can not be pulled; {remedy}, and spec.podTemplate.spec.imagePullSecrets: {message}",
        terminal=True,
    )


def _ended(pod: str, ended: Manifest) -> Failure:
    code = int(ended.get("exitCode", 0))
    told = _termination_message(ended)
    if code in (names.EXIT_START_FAILED, names.EXIT_INTERRUPTED) and told:
        reason = Reason(told["reason"])
        remedy = _REMEDIES.get(reason, "")
        return Failure(
            component=pod,
            reason=reason,
            message=f"{told['message']}{f'; {remedy}' if remedy else ''}",
            exit_code=code,
            terminal=code == names.EXIT_START_FAILED,
            time=ended.get("finishedAt"),
        )
    if ended.get("reason") == "OOMKilled":
        return Failure(
            component=pod,
            reason=Reason.OUT_OF_MEMORY,
            message="the container was killed for memory: raise spec.resources.limits.memory or lower "
            "spec.engine.memoryUtilization",
            exit_code=code,
            time=ended.get("finishedAt"),
        )
    return Failure(
        component=pod,
        reason=Reason.CRASH_LOOP,
        message=f"the container ended with exit code {code}; see its log (kubectl logs --previous {pod})",
        exit_code=code,
        time=ended.get("finishedAt"),
    )


def _termination_message(ended: Manifest) -> dict[str, str] | None:
    """The runtime's own words, or None when the message is not one of ours."""
    try:
        told = json.loads(ended.get("message", ""))
        Reason(told["reason"])
        return {"reason": str(told["reason"]), "message": str(told["message"])}
    except (ValueError, KeyError, TypeError):
        return None
