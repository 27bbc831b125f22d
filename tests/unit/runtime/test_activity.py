"""How busy callers keep a pod."""

from __future__ import annotations

from openmodel_runtime.front.activity import Activity
from openmodel_runtime.telemetry.ended_request import EndedRequest


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def ended(error: str | None = None, first: float | None = None) -> EndedRequest:
    return EndedRequest(
        operation="chat",
        received=0,
        first_token=None if first is None else int(first * 1e9),
        ended=10**9,
        input_tokens=1,
        output_tokens=1,
        error=error,
    )


def test_idle_is_since_the_last_request_that_there_was_something_for() -> None:
    clock = Clock()
    subject = Activity(clock)
    clock.now = 110.0
    assert subject.idle_seconds == 10.0
    with subject.request():
        assert (subject.under_way, subject.idle_seconds) == (1, 0.0)
    subject.request_ended(ended())
    clock.now = 115.0
    for error in ("INVALID_ARGUMENT", "NOT_FOUND"):
        subject.request_ended(ended(error))
    assert subject.idle_seconds == 5.0
    subject.request_ended(ended("CANCELLED"))
    assert subject.idle_seconds == 0.0


def test_first_tokens_are_told_of_the_last_minute() -> None:
    clock = Clock()
    subject = Activity(clock)

    def told() -> float | None:
        return subject.first_token_seconds

    assert told() is None
    for number in range(10):
        subject.request_ended(ended(first=float(number)))
    assert told() == 9.0
    for _ in range(90):
        subject.request_ended(ended(first=0.5))
    assert told() == 0.5
    clock.now += 61.0
    assert told() is None
    subject.request_ended(ended(first=3.0))
    assert told() == 3.0
