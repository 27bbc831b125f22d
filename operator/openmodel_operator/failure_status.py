"""`lastFailure`: what went wrong last, and when.

Pure; the clock is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from openmodel_operator.conditions import timestamp
from openmodel_operator.failures import Failure
from openmodel_operator.spec import Manifest


def told_failure(failure: Failure | None, before: Mapping[str, Any], now: datetime) -> Manifest:
    """`lastFailure`, which stands until there is another."""
    if failure is None:
        return {"lastFailure": before["lastFailure"]} if "lastFailure" in before else {}
    return {"lastFailure": _last_failure(failure, before, now)}


def _last_failure(failure: Failure, before: Mapping[str, Any], now: datetime) -> Manifest:
    told: Manifest = {
        "component": failure.component,
        "reason": str(failure.reason),
        "message": failure.message,
    }
    if failure.exit_code is not None:
        told["exitCode"] = failure.exit_code
    previous = dict(before.get("lastFailure", {}))
    since = previous.pop("time", None)
    # The same failure keeps its time, so that looking again does not write again.
    told["time"] = failure.time or (since if previous == told and since else timestamp(now))
    return told
