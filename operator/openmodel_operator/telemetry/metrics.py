"""The operator's metrics, recorded through OpenTelemetry and exposed for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from wsgiref.simple_server import WSGIServer

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, start_http_server

from openmodel_operator.telemetry import names

PlanRatios = Mapping[tuple[str, str], Mapping[str, float]]
"""Of models by namespace and name: what ranks have by what was planned, by category of memory."""


class OperatorMetrics:
    """Instruments of one operator."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        provider = MeterProvider(
            metric_readers=[PrometheusMetricReader(registry=self._registry)],
            resource=Resource.create({"service.name": "openmodel-operator"}),
        )
        self._meter = meter = provider.get_meter("openmodel_operator")
        self._duration = meter.create_histogram(
            names.RECONCILE_DURATION,
            unit="s",
            explicit_bucket_boundaries_advisory=names.RECONCILE_DURATION_BUCKETS,
        )
        self._errors = meter.create_counter(names.RECONCILE_ERRORS, unit="{error}")
        self._requests = meter.create_counter(names.API_REQUESTS, unit="{request}")

    def serve(self, host: str, port: int) -> WSGIServer:
        """Starts the exposition in a thread of its own."""
        server, _ = start_http_server(port, addr=host, registry=self._registry)
        return server

    def watch_plans(self, ratios: Callable[[], PlanRatios]) -> None:
        """Has the ratios told, whenever somebody asks for the metrics."""

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for (namespace, model), by_category in list(ratios().items()):
                for category, ratio in by_category.items():
                    attributes = {names.NAMESPACE: namespace, names.MODEL: model, names.CATEGORY: category}
                    yield Observation(ratio, attributes)

        self._meter.create_observable_gauge(names.PLAN_ACTUAL_RATIO, [observe], unit="1")

    def watch_leader(self, leads: Callable[[], bool]) -> None:
        """Has it told whether this operator is the one that acts."""

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            yield Observation(int(leads()))

        self._meter.create_observable_gauge(names.LEADER, [observe], unit="1")

    def request(self, method: str, kind: str) -> None:
        """Books one request to the API server."""
        self._requests.add(1, {names.METHOD: method, names.OBJECT_KIND: kind})

    @contextmanager
    def reconcile(self) -> Iterator[None]:
        """Books one look at an OpenModel, and whether it failed."""
        began = time.monotonic()
        try:
            yield
        except Exception:
            self._errors.add(1)
            raise
        finally:
            self._duration.record(time.monotonic() - began)
