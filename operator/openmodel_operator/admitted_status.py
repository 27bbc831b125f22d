"""`Admitted`: whether the model may be served, and loudly when what callers write leaves its pods.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openmodel_operator.conditions import find_condition
from openmodel_operator.reasons import ConditionType, Reason
from openmodel_operator.telemetry_spec import TelemetrySpec

AdmittedVerdict = tuple[bool, Reason, str]
NO_POLICY: AdmittedVerdict = (True, Reason.NO_POLICY, "no policy applies")


def admitted_verdict(
    telemetry: TelemetrySpec, before: Mapping[str, Any], *, paused: bool, settled: bool
) -> AdmittedVerdict:
    """`paused`: no pod of this spec is started. `settled`: none of another serves, which may tell what it does not."""
    if telemetry.capture_content and not paused:
        return True, Reason.CONTENT_CAPTURED, _told(telemetry)
    told = find_condition(before, ConditionType.ADMITTED)
    if told.get("reason") == Reason.CONTENT_CAPTURED and not settled:
        return True, Reason.CONTENT_CAPTURED, told["message"]
    return NO_POLICY


def _told(telemetry: TelemetrySpec) -> str:
    return (
        "spec.telemetry.captureContent is true: prompts and completions go in spans to "
        f"{telemetry.otlp_address}, where whoever reads those reads them"
    )
