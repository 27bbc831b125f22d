"""Whose Events are looked at, and what they come to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from factories import a_pod
from openmodel_operator.complaints import complaint, questionable
from openmodel_operator.reasons import Reason

LATER = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
AT_ONCE = datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC)


def a_maker(kind: str, spec: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": "maker", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"kind": kind, "metadata": metadata, "spec": spec, "status": status}


@pytest.mark.parametrize(
    ("kind", "spec", "status", "asked"),
    [
        ("StatefulSet", {"replicas": 2}, {"replicas": 1}, True),
        ("StatefulSet", {"replicas": 2}, {"replicas": 2}, False),
        ("StatefulSet", {"replicas": 0}, {}, False),
        ("Job", {}, {}, True),
        ("Job", {}, {"active": 1}, False),
        ("Job", {}, {"failed": 1}, False),
    ],
)
def test_makers_are_asked_that_lack_pods(kind: str, spec: Any, status: Any, asked: bool) -> None:
    maker = a_maker(kind, spec, status)
    assert (questionable([maker], [], LATER) == [maker]) == asked
    assert questionable([maker], [], AT_ONCE) == []


def test_pods_are_asked_that_do_not_say_why_they_do_not_start() -> None:
    mounting = a_pod("r", ready=False, waiting={"reason": "ContainerCreating"})
    running = a_pod("r", ready=False)
    ready = a_pod("r")
    pulling = a_pod("r", ready=False, waiting={"reason": "ImagePullBackOff"})
    unbound = a_pod("r", unschedulable="0/1 nodes are available")
    assert questionable([], [mounting, running, ready, pulling, unbound], LATER) == [mounting, running]
    assert questionable([], [mounting, running], AT_ONCE) == []


def test_the_newest_event_that_means_something_is_told() -> None:
    def event(reason: str, second: int, message: str = "", **more: Any) -> dict[str, Any]:
        told = {"reason": reason, "type": "Warning", "message": message, **more}
        return {**told, "lastTimestamp": f"2026-01-01T00:00:{second:02}Z"}

    pod = a_pod("r", name="one")
    events = [
        event("FailedMount", 5, 'secret "certificate" not found'),
        event("Unhealthy", 3, "old"),
        event("BackOff", 9),
        event("FailedCreate", 8, type="Normal"),
    ]
    told = complaint(pod, events)
    assert told is not None
    assert (told.component, told.reason, told.terminal) == ("one", Reason.MOUNT_FAILED, False)
    assert 'secret "certificate" not found' in told.message
    events[1]["series"] = {"lastObservedTime": "2026-01-01T00:00:30.000000Z"}
    assert (told := complaint(pod, events)) is not None
    assert told.reason is Reason.UNHEALTHY
    assert complaint(pod, events[2:]) is None
