"""What the router records: of all models together, so that there are as many series as there are names."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from openmodel_telemetry import metrics as table
from openmodel_telemetry.providers import Telemetry


class RouterMetrics:
    """Instruments of one router."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._held = telemetry.create(table.CALLS_HELD)
        self._wait = telemetry.create(table.CALL_WAIT)
        self._refused = telemetry.create(table.CALLS_REFUSED)
        self._again = telemetry.create(table.CALLS_SENT_AGAIN)
        # A series that is born with its first event has not increased for whoever watches.
        for counter in (self._refused, self._again):
            counter.add(0)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Books a call while it waits, and how long it did."""
        began = time.monotonic()
        self._held.add(1)
        try:
            yield
        finally:
            self._held.add(-1)
            self._wait.record(time.monotonic() - began)

    def refused(self) -> None:
        """Books a call for which there was no place."""
        self._refused.add(1)

    def sent_again(self) -> None:
        """Books a call whose pod was lost before it answered."""
        self._again.add(1)
