"""How busy callers keep a pod: what is under way, since when it has been idle, how long first tokens took of late.

Pure: the clock is an argument. For whoever decides how many groups a model needs; knows counts and times alone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from openmodel_runtime.telemetry.ended_request import EndedRequest

# What first tokens took is told of requests that ended in this time, but of no more than so many.
_WINDOW_SECONDS = 60.0
_MOST_REQUESTS = 512
_PERCENTILE = 0.9
# Whoever asks for what is not there keeps nothing awake.
_NO_ACTIVITY = ("INVALID_ARGUMENT", "NOT_FOUND")


class Activity:
    """The requests of a pod, as one number each."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self._first_tokens: deque[tuple[float, float]] = deque(maxlen=_MOST_REQUESTS)
        self.under_way = 0
        """Requests that have not ended."""

    @contextmanager
    def request(self) -> Iterator[None]:
        """While a request is under way."""
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1

    def request_ended(self, request: EndedRequest) -> None:
        """A request ended, however it did."""
        if request.error in _NO_ACTIVITY:
            return
        self._last = self._clock()
        if request.first_token_seconds is not None:
            self._first_tokens.append((self._last, request.first_token_seconds))

    @property
    def idle_seconds(self) -> float:
        """Since the last request ended, or since the pod began; 0 while one is under way."""
        return 0.0 if self.under_way else self._clock() - self._last

    @property
    def first_token_seconds(self) -> float | None:
        """What nine of ten requests of the last minute stayed within, from coming to their first token."""
        since = self._clock() - _WINDOW_SECONDS
        recent = sorted(seconds for at, seconds in self._first_tokens if at >= since)
        return recent[min(len(recent) - 1, int(_PERCENTILE * len(recent)))] if recent else None
