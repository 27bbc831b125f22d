"""Alerts: when somebody has to look, and what to do then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from openmodel_telemetry import metrics as m
from queries import most, observed, quantile, total

MODEL = "gen_ai_request_model"
# A PodMonitor says in which namespace a pod is: a name may be in several.
OF = ("namespace", MODEL)
_PAGE = "docs/reference/alerts.md"
_FAILED = 'error_type=~"INTERNAL|UNAVAILABLE|RESOURCE_EXHAUSTED"'
_WAITS = "Suspended|Paused|ScaledToZero|Inspecting|Fetching|Starting|RollingOut|Verifying"


@dataclass(frozen=True)
class Alert:
    """One of them."""

    name: str
    expression: str
    minutes: int
    """So long it must hold."""
    severity: str
    summary: str
    remedy: str
    example: Sequence[tuple[str, str]]
    """Series, and values a minute as promtool writes them, with which it fires."""


def _series(instrument: Any, suffix: str = "", **labels: str) -> str:
    told = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return f"{instrument.prometheus}{suffix}{{{told}}}"


ONE = {MODEL: "m"}
ALERTS = (
    Alert(
        "OpenModelNotReady",
        total(m.MODELS, "openmodel_reason", where=f'openmodel_ready="False",openmodel_reason!~"{_WAITS}"') + " > 0",
        10,
        "warning",
        "{{ $value }} OpenModels are not ready: {{ $labels.openmodel_reason }}",
        "`kubectl get openmodels -A` says which; the reason is on the page of conditions, with its remedy.",
        [(_series(m.MODELS, openmodel_ready="False", openmodel_reason="CrashLoop"), "1x20")],
    ),
    Alert(
        "OpenModelNoLeader",
        f"({total(m.LEADER)} or vector(0)) != 1",
        2,
        "critical",
        "{{ $value }} operators act, where one should: nothing is scaled, woken or mended",
        "Look at the operators' pods and logs, and at the Lease `openmodel-operator`. Models serve meanwhile.",
        [(_series(m.LEADER, instance="a"), "0x10")],
    ),
    Alert(
        "OpenModelLooksFail",
        f"sum(increase({m.RECONCILE_ERRORS.prometheus}[10m])) > 5",
        5,
        "warning",
        "looks at OpenModels fail",
        "The operator's log names the model and the error; most often the API server is away or refuses.",
        [(_series(m.RECONCILE_ERRORS), "0+1x40")],
    ),
    Alert(
        "OpenModelRequestsFail",
        f"{observed(m.REQUEST_DURATION, *OF, where=_FAILED)} / {observed(m.REQUEST_DURATION, *OF)} > 0.05",
        5,
        "critical",
        "{{ $value | humanizePercentage }} of the requests of {{ $labels.gen_ai_request_model }} fail",
        "By `error_type`: RESOURCE_EXHAUSTED needs more groups (`maxReplicas`), UNAVAILABLE is lost pods or ranks, "
        "INTERNAL stands in the pod's log.",
        [
            (_series(m.REQUEST_DURATION, "_count", **ONE, error_type="INTERNAL"), "0+60x20"),
            (_series(m.REQUEST_DURATION, "_count", **ONE, error_type=""), "0+60x20"),
        ],
    ),
    Alert(
        "OpenModelSlowFirstToken",
        f"{quantile(0.95, m.TIME_TO_FIRST_TOKEN, *OF)} > 5",
        10,
        "warning",
        "one in twenty first tokens of {{ $labels.gen_ai_request_model }} takes {{ $value | humanizeDuration }}",
        "Prompts wait, or are long: see queue and waiting tokens on the model's dashboard; raise `maxReplicas`, or set "
        "`targets.timeToFirstTokenSeconds`.",
        [
            (_series(m.TIME_TO_FIRST_TOKEN, "_bucket", **ONE, le="7.5"), "0+60x30"),
            (_series(m.TIME_TO_FIRST_TOKEN, "_bucket", **ONE, le="5.0"), "0x30"),
            (_series(m.TIME_TO_FIRST_TOKEN, "_bucket", **ONE, le="+Inf"), "0+60x30"),
        ],
    ),
    Alert(
        "OpenModelCacheFull",
        f"1 - {total(m.KV_CACHE_FREE_TOKENS, *OF)} / {total(m.KV_CACHE_TOKENS, *OF)} > 0.95",
        15,
        "warning",
        "{{ $value | humanizePercentage }} of the cache of {{ $labels.gen_ai_request_model }} is held",
        "Completions are put off and computed anew: more groups, more memory, or a smaller `maxModelLen`.",
        [(_series(m.KV_CACHE_FREE_TOKENS, **ONE), "1x30"), (_series(m.KV_CACHE_TOKENS, **ONE), "100x30")],
    ),
    Alert(
        "OpenModelExpertsMissing",
        f"{most(m.GROUP_MISSING_EXPERTS, *OF, 'instance')} > 0",
        1,
        "critical",
        "a group of {{ $labels.gen_ai_request_model }} lacks {{ $value }} experts and answers nobody",
        "More of its ranks are lost than the plan survives (`status.plan.survives`): see why its pods do not come.",
        [(_series(m.GROUP_MISSING_EXPERTS, **ONE, instance="i"), "2x10")],
    ),
    Alert(
        "OpenModelRanksDie",
        f"sum by (namespace, {MODEL}) (increase({m.RANK_DEATHS.prometheus}[15m])) > 2",
        0,
        "warning",
        "{{ $value }} ranks of {{ $labels.gen_ai_request_model }} died within 15 minutes",
        "`status.lastFailure` and the pod's log say why: most often memory.",
        [(_series(m.RANK_DEATHS, **ONE), "0+1x30")],
    ),
    Alert(
        "OpenModelCallsRefused",
        f"sum(increase({m.CALLS_REFUSED.prometheus}[5m])) > 0",
        0,
        "warning",
        "{{ $value }} calls to models at zero were refused",
        "More wait than routers hold (`router.maxHeldCalls`), or a model does not wake: `kubectl get openmodels -A`.",
        [(_series(m.CALLS_REFUSED), "0+5x20")],
    ),
    Alert(
        "OpenModelColdCallsWait",
        f"{quantile(0.95, m.CALL_WAIT, window='15m')} > 120",
        5,
        "warning",
        "one in twenty held calls waits more than {{ $value | humanizeDuration }}",
        "`status.coldStart` says which phase is slow: images, mounts, or the load. `minReplicas: 1` keeps a group.",
        [
            (_series(m.CALL_WAIT, "_bucket", le="300.0"), "0+5x40"),
            (_series(m.CALL_WAIT, "_bucket", le="120.0"), "0x40"),
            (_series(m.CALL_WAIT, "_bucket", le="+Inf"), "0+5x40"),
        ],
    ),
    Alert(
        "OpenModelPlanExceeded",
        f"{most(m.PLAN_ACTUAL, 'k8s_namespace_name', 'openmodel_model', 'openmodel_memory_category')} > 1.1",
        15,
        "warning",
        "{{ $labels.openmodel_model }} has {{ $value }} times the planned {{ $labels.openmodel_memory_category }}",
        "A rank may run out of memory under load: raise `resources.limits.memory`, and report the model.",
        [
            (
                _series(m.PLAN_ACTUAL, k8s_namespace_name="n", openmodel_model="m", openmodel_memory_category="w"),
                "1.2x30",
            )
        ],
    ),
)


def rules() -> dict[str, Any]:
    """As Prometheus takes them."""
    return {"groups": [{"name": "openmodel", "rules": [_rule(alert) for alert in ALERTS]}]}


def _rule(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expression,
        "for": f"{alert.minutes}m",
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.summary, "runbook": f"{_PAGE}#{alert.name.lower()}"},
    }


def page() -> str:
    """The runbooks."""
    parts = [
        "# Alerts\n",
        "Made from `hack/observability/alerts.py`; `prometheusRule.enabled` of the chart installs them.\n",
    ]
    for alert in ALERTS:
        parts.append(
            f"## {alert.name}\n\n{alert.severity}, after {alert.minutes} minutes of\n\n"
            f"```promql\n{alert.expression}\n```\n\n{alert.remedy}\n"
        )
    return "\n".join(parts)
