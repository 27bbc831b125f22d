"""Grafana dashboards: what to look at, and what each panel asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from openmodel_telemetry import metrics as m
from queries import most, observed, quantile, rate, total

MODEL, ERROR, LAYER = "gen_ai_request_model", "error_type", "openmodel_layer"
# A PodMonitor says in which namespace a pod is: a name may be in several.
OF = ("namespace", MODEL)
ONE = f'{MODEL}=~"$model"'
_WIDTH, _HEIGHT = 8, 7


@dataclass(frozen=True)
class Panel:
    """One picture."""

    title: str
    unit: str
    """Grafana's: s, short, percentunit, reqps."""
    queries: Sequence[tuple[str, str]]
    """Expressions and their legends."""
    kind: str = "timeseries"


@dataclass(frozen=True)
class Dashboard:
    """A page of them."""

    name: str
    title: str
    panels: Sequence[Panel]
    of_model: bool = False
    """Whether the model is chosen."""


_CACHE_USED = f"1 - {total(m.KV_CACHE_FREE_TOKENS, *OF)} / {total(m.KV_CACHE_TOKENS, *OF)}"

FLEET = Dashboard(
    "fleet",
    "OpenModel / Fleet",
    (
        Panel(
            "Models by readiness",
            "short",
            [(total(m.MODELS, "openmodel_ready", "openmodel_reason"), "{{openmodel_ready}} {{openmodel_reason}}")],
        ),
        Panel("Generated tokens", "short", [(rate(m.OUTPUT_TOKENS, *OF), f"{{{{{MODEL}}}}}")]),
        Panel("Requests", "reqps", [(observed(m.REQUEST_DURATION, *OF), f"{{{{{MODEL}}}}}")]),
        Panel("First token, 95 %", "s", [(quantile(0.95, m.TIME_TO_FIRST_TOKEN, *OF), f"{{{{{MODEL}}}}}")]),
        Panel(
            "Requests that failed",
            "reqps",
            [(observed(m.REQUEST_DURATION, *OF, ERROR, where=f'{ERROR}!=""'), f"{{{{{MODEL}}}}} {{{{{ERROR}}}}}")],
        ),
        Panel("Cache held", "percentunit", [(_CACHE_USED, f"{{{{{MODEL}}}}}")]),
        Panel("Waiting tokens", "short", [(total(m.WAITING_TOKENS, *OF), f"{{{{{MODEL}}}}}")]),
        Panel("Calls held by routers", "short", [(total(m.CALLS_HELD), "held")]),
    ),
)
ONE_MODEL = Dashboard(
    "model",
    "OpenModel / One model",
    (
        Panel(
            "First token", "s", [(quantile(q, m.TIME_TO_FIRST_TOKEN, where=ONE), f"{q:.0%}") for q in (0.5, 0.95, 0.99)]
        ),
        Panel(
            "Time per token", "s", [(quantile(q, m.TIME_PER_OUTPUT_TOKEN, where=ONE), f"{q:.0%}") for q in (0.5, 0.95)]
        ),
        Panel("Queue", "s", [(quantile(q, m.QUEUE_DURATION, where=ONE), f"{q:.0%}") for q in (0.5, 0.95)]),
        Panel("Requests by outcome", "reqps", [(observed(m.REQUEST_DURATION, ERROR, where=ONE), f"{{{{{ERROR}}}}}")]),
        Panel(
            "Running and waiting",
            "short",
            [(total(m.REQUESTS_RUNNING, where=ONE), "running"), (total(m.REQUESTS_WAITING, where=ONE), "waiting")],
        ),
        Panel("Waiting tokens", "short", [(total(m.WAITING_TOKENS, "instance", where=ONE), "{{instance}}")]),
        Panel(
            "Cache held",
            "percentunit",
            [(f"1 - {total(m.KV_CACHE_FREE_TOKENS, where=ONE)} / {total(m.KV_CACHE_TOKENS, where=ONE)}", "held")],
        ),
        Panel(
            "Tokens",
            "short",
            [
                (rate(m.INPUT_TOKENS, where=ONE), "in"),
                (rate(m.CACHED_TOKENS, where=ONE), "of those, cached"),
                (rate(m.OUTPUT_TOKENS, where=ONE), "out"),
            ],
        ),
        Panel("Ranks of the groups", "short", [(most(m.GROUP_RANKS, "instance", where=ONE), "{{instance}}")]),
        Panel("Epochs", "short", [(most(m.GROUP_EPOCH, "instance", where=ONE), "{{instance}}")]),
        Panel("Last load", "s", [(most(m.LOAD_DURATION, "instance", where=ONE), "{{instance}}")]),
    ),
    of_model=True,
)
EXPERTS = Dashboard(
    "experts",
    "OpenModel / Experts",
    (
        Panel(
            "Busiest rank by the mean, each layer",
            "short",
            [(most(m.EXPERT_IMBALANCE, LAYER, where=ONE), f"{{{{{LAYER}}}}}")],
            "heatmap",
        ),
        Panel(
            "Hottest expert by the mean, each layer",
            "short",
            [(most(m.EXPERT_HOTTEST, LAYER, where=ONE), f"{{{{{LAYER}}}}}")],
            "heatmap",
        ),
        Panel(
            "Experts that no rank has",
            "short",
            [(most(m.GROUP_MISSING_EXPERTS, "instance", where=ONE), "{{instance}}")],
        ),
        Panel("Ranks", "short", [(most(m.GROUP_RANKS, "instance", where=ONE), "{{instance}}")]),
    ),
    of_model=True,
)
SCALING = Dashboard(
    "scaling",
    "OpenModel / Autoscaling and cold start",
    (
        Panel(
            "Changes of the count",
            "short",
            [
                (
                    f"sum by (k8s_namespace_name, openmodel_model) (increase({m.SCALINGS.prometheus}[10m]))",
                    "{{k8s_namespace_name}}/{{openmodel_model}}",
                )
            ],
        ),
        Panel("Calls held", "short", [(total(m.CALLS_HELD, "instance"), "{{instance}}")]),
        Panel("Wait of held calls", "s", [(quantile(q, m.CALL_WAIT), f"{q:.0%}") for q in (0.5, 0.95)]),
        Panel(
            "Start, by phase",
            "s",
            [
                (
                    quantile(0.95, m.COLD_START, "openmodel_cold_start_phase", window="1h"),
                    "{{openmodel_cold_start_phase}}",
                )
            ],
        ),
        Panel("Waiting tokens", "short", [(total(m.WAITING_TOKENS, *OF), f"{{{{{MODEL}}}}}")]),
    ),
)
OPERATOR = Dashboard(
    "operator",
    "OpenModel / Operator",
    (
        Panel("Looks", "short", [(observed(m.RECONCILE_DURATION), "a second")]),
        Panel("A look", "s", [(quantile(q, m.RECONCILE_DURATION), f"{q:.0%}") for q in (0.5, 0.95)]),
        Panel(
            "Requests to the API server",
            "reqps",
            [
                (
                    rate(m.API_REQUESTS, "http_request_method", "k8s_object_kind"),
                    "{{http_request_method}} {{k8s_object_kind}}",
                )
            ],
        ),
        Panel("Who leads", "short", [(total(m.LEADER, "instance"), "{{instance}}")]),
        Panel(
            "What ranks have by what was planned",
            "short",
            [
                (
                    most(m.PLAN_ACTUAL, "k8s_namespace_name", "openmodel_model", "openmodel_memory_category"),
                    "{{k8s_namespace_name}}/{{openmodel_model}} {{openmodel_memory_category}}",
                )
            ],
        ),
    ),
)
DASHBOARDS = (FLEET, ONE_MODEL, EXPERTS, SCALING, OPERATOR)


def to_json(dashboard: Dashboard) -> dict[str, Any]:
    """As Grafana takes it."""
    source = {"type": "prometheus", "uid": "${datasource}"}
    variables: list[dict[str, Any]] = [{"name": "datasource", "type": "datasource", "query": "prometheus"}]
    if dashboard.of_model:
        values = f"label_values({m.REQUESTS_RUNNING.prometheus}, {MODEL})"
        variables.append(
            {"name": "model", "type": "query", "datasource": source, "query": values, "refresh": 2, "includeAll": False}
        )
    return {
        "uid": f"openmodel-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["openmodel"],
        "schemaVersion": 39,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": variables},
        "panels": [_panel(number, panel, source) for number, panel in enumerate(dashboard.panels)],
    }


def _panel(number: int, panel: Panel, source: dict[str, str]) -> dict[str, Any]:
    row, column = divmod(number, 24 // _WIDTH)
    return {
        "id": number + 1,
        "type": panel.kind,
        "title": panel.title,
        "datasource": source,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": expression, "legendFormat": legend, "datasource": source}
            for index, (expression, legend) in enumerate(panel.queries)
        ],
    }
