"""Every name of a metric that the router emits, in one place."""

from __future__ import annotations

CALLS_HELD = "openmodel.router.calls.held"
CALLS_REFUSED = "openmodel.router.calls.refused"
CALLS_SENT_AGAIN = "openmodel.router.calls.sent_again"
CALL_WAIT = "openmodel.router.call.wait"

CALL_WAIT_BUCKETS = (
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
)  # fmt: skip
