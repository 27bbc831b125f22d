"""The router's metrics, recorded through OpenTelemetry and exposed for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from wsgiref.simple_server import WSGIServer

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, start_http_server

from openmodel_router.telemetry import names


class RouterMetrics:
    """Instruments of one router; of all models together, so that there are as many series as there are names."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        provider = MeterProvider(
            metric_readers=[PrometheusMetricReader(registry=self._registry)],
            resource=Resource.create({"service.name": "openmodel-router"}),
        )
        meter = provider.get_meter("openmodel_router")
        self._held = meter.create_up_down_counter(names.CALLS_HELD, unit="{call}")
        self._refused = meter.create_counter(names.CALLS_REFUSED, unit="{call}")
        self._again = meter.create_counter(names.CALLS_SENT_AGAIN, unit="{call}")
        self._wait = meter.create_histogram(
            names.CALL_WAIT, unit="s", explicit_bucket_boundaries_advisory=names.CALL_WAIT_BUCKETS
        )

    def serve(self, host: str, port: int) -> WSGIServer:
        """Starts the exposition in a thread of its own."""
        server, _ = start_http_server(port, addr=host, registry=self._registry)
        return server

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
