"""Whose Events are looked at, and what they come to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
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
    assert [item for item, _ in questionable([maker], [], LATER)] == ([maker] if asked else [])
    assert questionable([maker], [], AT_ONCE) == []


def a_starting_pod(**more: Any) -> dict[str, Any]:
    pod = a_pod("r", ready=False, waiting={"reason": "ContainerCreating"}, **more)
    pod["status"] |= {"phase": "Pending", "startTime": "2026-01-01T00:00:01Z"}
    return pod


def test_pods_are_asked_that_do_not_say_why_they_do_not_start_and_those_that_were_ready() -> None:
    starting, ready, was_ready = a_starting_pod(), a_pod("r"), a_pod("r", ready=False)
    pulling = a_pod("r", ready=False, waiting={"reason": "ImagePullBackOff"})
    pulling["status"] |= {"phase": "Pending", "startTime": "2026-01-01T00:00:01Z"}
    unbound = a_pod("r", unschedulable="0/1 nodes are available")
    loading = a_pod("r", ready=False)
    loading["status"]["conditions"][1]["lastTransitionTime"] = "2026-01-01T00:00:01Z"
    going = a_starting_pod()
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:05Z"
    pods = [starting, ready, was_ready, pulling, unbound, loading, going]
    assert [item for item, _ in questionable([], pods, LATER)] == [starting, was_ready]
    assert questionable([], pods, AT_ONCE) == []


def test_the_newest_event_that_counts_is_told() -> None:
    def event(reason: str, second: int, message: str = "", **more: Any) -> dict[str, Any]:
        told = {"reason": reason, "type": "Warning", "message": message, **more}
        return {**told, "lastTimestamp": f"2026-01-01T00:00:{second:02}Z"}

    ((pod, about),) = questionable([], [a_starting_pod(name="one")], LATER)
    events = [
        event("FailedMount", 5, 'secret "certificate" not found'),
        event("FailedCreatePodSandBox", 3, "old"),
        event("Unhealthy", 9),
        event("FailedMount", 8, type="Normal"),
    ]
    told = complaint(pod, about, events, LATER)
    assert told is not None
    assert (told.component, told.reason, told.terminal) == ("one", Reason.MOUNT_FAILED, False)
    assert 'secret "certificate" not found' in told.message
    events[1]["series"] = {"lastObservedTime": "2026-01-01T00:00:30.000000Z"}
    assert (told := complaint(pod, about, events, LATER)) is not None
    assert told.reason is Reason.CONTAINER_FAILED
    assert complaint(pod, about, events[2:], LATER) is None
    assert complaint(pod, about, events, LATER + timedelta(hours=1)) is None, "that was long ago"
