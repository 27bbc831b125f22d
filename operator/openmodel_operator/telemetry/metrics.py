"""The operator's metrics, recorded through OpenTelemetry and exposed for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from wsgiref.simple_server import WSGIServer

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, start_http_server

from openmodel_operator.telemetry import names


class OperatorMetrics:
    """Instruments of one operator."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        provider = MeterProvider(
            metric_readers=[PrometheusMetricReader(registry=self._registry)],
            resource=Resource.create({"service.name": "openmodel-operator"}),
        )
        meter = provider.get_meter("openmodel_operator")
        self._duration = meter.create_histogram(
            names.RECONCILE_DURATION,
            unit="s",
            explicit_bucket_boundaries_advisory=names.RECONCILE_DURATION_BUCKETS,
        )
        self._errors = meter.create_counter(names.RECONCILE_ERRORS, unit="{error}")

    def serve(self, host: str, port: int) -> WSGIServer:
        """Starts the exposition in a thread of its own."""
        server, _ = start_http_server(port, addr=host, registry=self._registry)
        return server

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
