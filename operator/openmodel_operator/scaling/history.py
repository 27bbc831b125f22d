"""What `status.scaling` tells, and whether somebody else keeps writing the count.

Pure. Writes through a custom resource's scale subresource leave no trace of who wrote: what differs from what was
decided last was somebody else's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from openmodel_operator.conditions import Verdict, merge_conditions, moment, timestamp
from openmodel_operator.reasons import ConditionType, Reason
from openmodel_operator.scaling.decision import Decision
from openmodel_operator.spec import AutoscalingSpec, Manifest

MOST_ENTRIES = 10
_FOREIGN = "written by somebody else"
_CONTESTED_WITHIN = timedelta(minutes=30)
_CONTESTED_TIMES = 3
# While the count is contested it is written no more often than this.
_CONTESTED_PAUSE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Scaling:
    """The scaling of a model at one look."""

    spec: AutoscalingSpec
    decision: Decision
    history: Sequence[Mapping[str, Any]]
    contested: bool


def with_foreign(
    before: Mapping[str, Any], replicas: int, known: Sequence[int | None], now: datetime
) -> list[Mapping[str, Any]]:
    """The history of `status.scaling`, and what somebody else has made of the count since: none that was known."""
    history = list(before.get("history", []))
    if "desired" not in before or replicas in known:
        return history
    return _added(history, before["desired"], replicas, _FOREIGN, now)


def is_contested(history: Sequence[Mapping[str, Any]], now: datetime) -> bool:
    """Whether somebody else keeps undoing what is decided."""
    late = [item for item in history if moment(item["time"]) > now - _CONTESTED_WITHIN]
    return len([item for item in late if item["reason"] == _FOREIGN]) >= _CONTESTED_TIMES


def holds_back(history: Sequence[Mapping[str, Any]], now: datetime) -> bool:
    """Whether the count is contested, and was written not long ago."""
    own = [moment(item["time"]) for item in history if item["reason"] != _FOREIGN]
    return is_contested(history, now) and bool(own) and now - own[-1] < _CONTESTED_PAUSE


def with_decision(
    history: Sequence[Mapping[str, Any]], replicas: int, decision: Decision, now: datetime
) -> list[Mapping[str, Any]]:
    """The history with a change of the count, if there is one."""
    if decision.replicas == replicas:
        return list(history)
    return _added(history, replicas, decision.replicas, decision.reason, now)


def scaling_status(
    status: Manifest, before: Mapping[str, Any], scaling: Scaling, generation: int, now: datetime
) -> Manifest:
    """A status with the condition `Scaling`, and `scaling`, of a model that is scaled here."""
    told = before.get("scaling", {})
    decided = scaling.decision
    # The numbers in a reason change with each look: they are told when the count changes.
    reason = told["reason"] if told.get("desired") == decided.replicas and "reason" in told else decided.reason
    (condition,) = merge_conditions(before.get("conditions", []), [_verdict(scaling)], generation, timestamp(now))
    others = status.get("conditions", [])
    return {
        **status,
        "conditions": [condition if item["type"] == condition["type"] else item for item in others],
        "scaling": {"desired": decided.replicas, "reason": reason, "history": list(scaling.history)},
    }


def _verdict(scaling: Scaling) -> Verdict:
    if scaling.contested:
        last = [item["to"] for item in scaling.history if item["reason"] == _FOREIGN][-1]
        told = (
            f"somebody else keeps writing spec.replicas, last to {last}: leave it out of what is "
            "applied from Git, or leave spec.autoscaling out"
        )
        return Verdict(ConditionType.SCALING, False, Reason.CONTESTED, told)
    bounds = f"between {scaling.spec.min_replicas} and {scaling.spec.max_replicas} groups, as the load calls for"
    return Verdict(ConditionType.SCALING, True, Reason.AUTOSCALED, bounds)


def _added(
    history: Sequence[Mapping[str, Any]], before: int, after: int, reason: str, now: datetime
) -> list[Mapping[str, Any]]:
    entry = {"time": timestamp(now), "from": before, "to": after, "reason": reason}
    return [*history, entry][-MOST_ENTRIES:]
