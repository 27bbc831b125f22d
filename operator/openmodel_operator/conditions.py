"""Conditions: built from verdicts, kept steady in time.

Pure. `lastTransitionTime` moves only when the status does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from openmodel_operator.reasons import ConditionType, Reason
from openmodel_operator.spec import Manifest


@dataclass(frozen=True, slots=True)
class Verdict:
    """One condition's content; `status` None is Unknown."""

    type: ConditionType
    status: bool | None
    reason: Reason
    message: str


def timestamp(now: datetime) -> str:
    """RFC 3339 in UTC, to the second, as Kubernetes writes it."""
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    """What Kubernetes wrote as a time."""
    return datetime.fromisoformat(text)


def find_condition(status: Mapping[str, Any], kind: ConditionType) -> Mapping[str, str]:
    """The condition of this type, empty when the status has none."""
    found: Mapping[str, str] = next((item for item in status.get("conditions", []) if item["type"] == kind), {})
    return found


def is_true(status: Mapping[str, Any], kind: ConditionType) -> bool:
    """Whether the condition of this type holds."""
    return find_condition(status, kind).get("status") == "True"


def readiness(status: Mapping[str, Any]) -> tuple[str, str]:
    """Status and reason of the condition Ready, which the status has."""
    found = find_condition(status, ConditionType.READY)
    return found["status"], found["reason"]


def merge_conditions(
    before: Sequence[Mapping[str, object]],
    verdicts: Iterable[Verdict],
    generation: int,
    now: str,
) -> list[Manifest]:
    """The verdicts as conditions; `now` is an RFC 3339 time."""
    known = {item.get("type"): item for item in before}
    conditions = []
    for verdict in verdicts:
        status = "Unknown" if verdict.status is None else str(verdict.status)
        previous = known.get(verdict.type, {})
        since = previous.get("lastTransitionTime") if previous.get("status") == status else None
        conditions.append(
            {
                "type": str(verdict.type),
                "status": status,
                "reason": str(verdict.reason),
                "message": verdict.message,
                "observedGeneration": generation,
                "lastTransitionTime": since or now,
            }
        )
    return conditions
