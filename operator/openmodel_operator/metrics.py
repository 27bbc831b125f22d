"""What the operator records of its own work."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from openmodel_telemetry import metrics as table
from openmodel_telemetry import names
from openmodel_telemetry.providers import Telemetry

PlanRatios = Mapping[tuple[str, str], Mapping[str, float]]
"""Of models by namespace and name: what ranks have by what was planned, by category of memory."""
Readiness = Mapping[tuple[str, str], tuple[str, str]]
"""Of models by namespace and name: status and reason of the condition Ready."""


class OperatorMetrics:
    """Instruments of one operator."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._duration = telemetry.create(table.RECONCILE_DURATION)
        self._errors = telemetry.create(table.RECONCILE_ERRORS)
        self._requests = telemetry.create(table.API_REQUESTS)
        self._scalings = telemetry.create(table.SCALINGS)
        self._cold_start = telemetry.create(table.COLD_START)
        # A series that is born with its first event has not increased for whoever watches.
        self._errors.add(0)

    def watch_plans(self, ratios: Callable[[], PlanRatios]) -> None:
        """Has the ratios told, whenever somebody asks for the metrics."""
        self._telemetry.observe(
            table.PLAN_ACTUAL,
            lambda: [
                (ratio, {names.NAMESPACE: namespace, names.MODEL: model, names.CATEGORY: category})
                for (namespace, model), by_category in list(ratios().items())
                for category, ratio in by_category.items()
            ],
        )

    def watch_leader(self, leads: Callable[[], bool]) -> None:
        """Has it told whether this operator is the one that acts."""
        self._telemetry.observe(table.LEADER, lambda: [(int(leads()), {})])

    def watch_models(self, readiness: Callable[[], Readiness]) -> None:
        """Has it told how many models are ready, and why others are not."""
        self._telemetry.observe(
            table.MODELS,
            lambda: [
                (count, {names.READY: status, names.REASON: reason})
                for (status, reason), count in Counter(list(readiness().values())).items()
            ],
        )

    def request(self, method: str, kind: str) -> None:
        """Books one request to the API server."""
        self._requests.add(1, {names.METHOD: method, names.OBJECT_KIND: kind})

    def scaled(self, namespace: str, model: str, before: int, after: int, reason: str) -> None:
        """Books a change of a count that was decided here, and makes a span of it under the look."""
        attributes = {names.NAMESPACE: namespace, names.MODEL: model}
        self._scalings.add(1, attributes)
        told: dict[str, str | int] = {
            **attributes,
            names.SCALE_FROM: before,
            names.SCALE_TO: after,
            names.REASON: reason,
        }
        self._telemetry.tracer.start_span(names.SCALE_SPAN, attributes=told).end()

    def started(self, phases: Mapping[str, float]) -> None:
        """Books the start of a pod: seconds of each phase."""
        for phase, seconds in phases.items():
            self._cold_start.record(seconds, {names.PHASE: phase})

    @contextmanager
    def reconcile(self, namespace: str, model: str) -> Iterator[None]:
        """Books one look at an OpenModel, and whether it failed."""
        began = time.monotonic()
        attributes = {names.NAMESPACE: namespace, names.MODEL: model}
        with self._telemetry.tracer.start_as_current_span(names.RECONCILE_SPAN, attributes=attributes):
            try:
                yield
            except Exception:
                self._errors.add(1)
                raise
            finally:
                self._duration.record(time.monotonic() - began)
