"""Every name of a metric or span that the operator emits, in one place."""

from __future__ import annotations

RECONCILE_DURATION = "openmodel.operator.reconcile.duration"
RECONCILE_ERRORS = "openmodel.operator.reconcile.errors"

API_REQUESTS = "openmodel.operator.api.requests"
METHOD = "http.request.method"
OBJECT_KIND = "k8s.object.kind"
LEADER = "openmodel.operator.leader"

PLAN_ACTUAL_RATIO = "openmodel.operator.plan.actual"
NAMESPACE = "k8s.namespace.name"
MODEL = "openmodel.model"
CATEGORY = "openmodel.memory.category"

RECONCILE_DURATION_BUCKETS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
