"""How long the phases of a pod's start took, from what its own status says.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from openmodel_operator.conditions import moment
from openmodel_operator.spec import Manifest


def cold_start(pod: Manifest, first_token: float, before: Mapping[str, Any] | None = None) -> Manifest:
    """Seconds by phase, from what the pod's own status says.

    A start that was told `before` keeps its first token: whoever asks again later asks a warm pod.
    """
    times = {item["type"]: item.get("lastTransitionTime") for item in pod["status"]["conditions"]}
    container: Manifest = next(iter(pod["status"].get("containerStatuses", [])), {})
    marks = [
        pod["metadata"].get("creationTimestamp"),
        times.get("PodScheduled"),
        container.get("state", {}).get("running", {}).get("startedAt"),
        times.get("Ready"),
    ]
    phases: Manifest = {"firstToken": round(first_token, 1)}
    for phase, start, end in zip(("scheduled", "mount", "load"), marks, marks[1:], strict=False):
        if start and end:
            seconds = (moment(end) - moment(start)).total_seconds()
            phases[phase] = round(max(0.0, seconds), 1)
    same = {**phases, "firstToken": (before or {}).get("firstToken")}
    return same if same == before else phases


def ready_since(pod: Manifest) -> datetime:
    """When a ready pod became so, as far as it says."""
    times = {item["type"]: item.get("lastTransitionTime") for item in pod["status"]["conditions"]}
    return moment(times.get("Ready") or pod["metadata"]["creationTimestamp"])
