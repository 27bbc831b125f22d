"""What `status.scaling` tells, and who keeps writing the count."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from openmodel_operator.scaling.decision import Decision
from openmodel_operator.scaling.history import (
    MOST_ENTRIES,
    Scaling,
    holds_back,
    is_contested,
    scaling_status,
    with_decision,
    with_foreign,
)
from openmodel_operator.spec import AutoscalingSpec

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = AutoscalingSpec(max_replicas=4)


def fight(rounds: int) -> list[Mapping[str, Any]]:
    """Two replicas are decided for, and somebody writes one, again and again."""
    history: list[Mapping[str, Any]] = []
    for turn in range(rounds):
        now = NOW + timedelta(seconds=20 * turn)
        history = with_decision(history, 1, Decision(2, "so much to do"), now)
        history = with_foreign({"history": history, "desired": 2}, 1, (2, 2), now)
    return history


def test_one_hand_of_somebody_else_is_told_and_followed() -> None:
    history = fight(1)
    assert [(item["from"], item["to"]) for item in history] == [(1, 2), (2, 1)]
    assert not is_contested(history, NOW)
    assert with_foreign({}, 3, (None, None), NOW) == []


def test_three_within_half_an_hour_contest_the_count_and_slow_the_writing_down() -> None:
    history = fight(3)
    assert is_contested(history, NOW + timedelta(minutes=1))
    assert holds_back(history, NOW + timedelta(minutes=1))
    assert not holds_back(history, NOW + timedelta(minutes=6))
    assert not is_contested(history, NOW + timedelta(minutes=31))


def test_the_history_is_bounded() -> None:
    assert len(fight(20)) == MOST_ENTRIES


def test_the_condition_names_who_contests_and_the_reason_stands_until_the_count_changes() -> None:
    before = {"conditions": [{"type": "Scaling", "status": "True", "reason": "AsAsked", "lastTransitionTime": "x"}]}
    first = scaling_status(before, before, Scaling(SPEC, Decision(2, "9 wait"), fight(1), contested=False), 1, NOW)
    (condition,) = first["conditions"]
    assert (condition["status"], condition["reason"], condition["lastTransitionTime"]) == ("True", "Autoscaled", "x")
    again = scaling_status(first, first, Scaling(SPEC, Decision(2, "8 wait"), fight(3), contested=True), 1, NOW)
    (condition,) = again["conditions"]
    assert (condition["status"], condition["reason"]) == ("False", "Contested")
    assert "last to 1" in condition["message"]
    assert again["scaling"]["reason"] == "9 wait"
