"""Kubernetes Events about an OpenModel.

Pure: from a change of status to the Event that tells of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from openmodel_operator import names
from openmodel_operator.conditions import find_condition, is_true, timestamp
from openmodel_operator.reasons import ConditionType, Reason
from openmodel_operator.spec import Manifest

_MAX_MESSAGE = 1024


def transition_event(
    model: Manifest, before: Mapping[str, Any], after: Mapping[str, Any], now: datetime
) -> Manifest | None:
    """An Event when Ready changed its status or reason, else None.

    An inspection is a Job's, which has Events of its own.
    """
    old, new = find_condition(before, ConditionType.READY), find_condition(after, ConditionType.READY)
    if (old.get("status"), old.get("reason")) == (new["status"], new["reason"]) or new["reason"] == Reason.INSPECTING:
        return None
    kind = "Warning" if is_true(after, ConditionType.STALLED) else "Normal"
    return _event(model, kind, new["reason"], new["message"], now)


def capture_event(
    model: Manifest, before: Mapping[str, Any], after: Mapping[str, Any], now: datetime
) -> Manifest | None:
    """A warning when what callers ask and are answered begins to be told, or to somebody else; else None."""
    old, new = find_condition(before, ConditionType.ADMITTED), find_condition(after, ConditionType.ADMITTED)
    told = (new["reason"], new["message"])
    if new["reason"] != Reason.CONTENT_CAPTURED or (old.get("reason"), old.get("message")) == told:
        return None
    return _event(model, "Warning", new["reason"], new["message"], now)


def scaling_event(model: Manifest, before: int, after: int, reason: str, now: datetime) -> Manifest:
    """Of a change of the count that was decided here."""
    word = "ScaledUp" if after > before else "ScaledDown"
    return _event(model, "Normal", word, f"from {before} to {after} groups: {reason}", now)


def _event(model: Manifest, kind: str, reason: str, message: str, now: datetime) -> Manifest:
    metadata = model["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{metadata['name']}-", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "type": kind,
        "reason": reason,
        "message": message[:_MAX_MESSAGE],
        "firstTimestamp": timestamp(now),
        "lastTimestamp": timestamp(now),
        "count": 1,
        "source": {"component": names.COMPONENT},
        "reportingComponent": names.COMPONENT,
    }
