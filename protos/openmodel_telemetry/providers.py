"""The ways out: Prometheus text for whoever asks, and OTLP over gRPC where the environment names a collector.

The environment is OpenTelemetry's own: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER_ARG and the rest that its SDK
knows. Spans go out in a thread of their own from a queue that is bounded: when a collector is slow or away they are
dropped and counted (`otel.sdk.processor.span.processed`), and no request waits for them.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from wsgiref.simple_server import WSGIServer

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import Counter, MeterProvider, ObservableGauge
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import NoOpTracer, Tracer
from prometheus_client import CollectorRegistry, start_http_server

from openmodel_telemetry import names
from openmodel_telemetry.instrument import Instrument, Kind

_log = logging.getLogger(__name__)
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
RATIO = "OTEL_TRACES_SAMPLER_ARG"
_COUNT_DROPPED = "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"

# Spans that go out in one message when they have content: collectors take 4 MiB.
_BATCH_WITH_CONTENT = 32
_BATCH = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
_QUEUE = "OTEL_BSP_MAX_QUEUE_SIZE"
# Of what there is a series a model, or some: the SDK's own limit is 2,000.
_LIMITS: Any = {Counter: 100_000, ObservableGauge: 100_000}

Observations = Iterable[tuple[float, Mapping[str, str]]]
"""Values with their attributes."""


class Telemetry:
    """Metrics and spans of one program."""

    def __init__(self, service: str, **attributes: str) -> None:
        """`service` is its name; `attributes` are those of all that it tells."""
        # What the SDK drops it only counts when it is told to, and it is told by the environment alone.
        os.environ.setdefault(_COUNT_DROPPED, "true")
        self._registry = CollectorRegistry()
        self._exposition: WSGIServer | None = None
        exports = bool(os.environ.get(ENDPOINT))
        resource = Resource.create({"service.name": service, **attributes})
        readers: list[MetricReader] = [PrometheusMetricReader(registry=self._registry, cardinality_limits=_LIMITS)]
        if exports:
            readers.append(PeriodicExportingMetricReader(OTLPMetricExporter(), cardinality_limits=_LIMITS))
        self._meters = MeterProvider(metric_readers=readers, resource=resource)
        self._meter = self._meters.get_meter(service)
        self._tracers = _tracers(resource, self._meters) if exports else None
        # Without a collector a span costs nothing.
        self.tracer: Tracer = NoOpTracer() if self._tracers is None else self._tracers.get_tracer(service)
        self.traces = exports
        """Whether spans go anywhere."""
        self.captures = exports and captures_content()
        """Whether spans have what callers ask and are answered."""

    def serve(self, host: str, port: int) -> int:
        """Starts the exposition for Prometheus in a thread of its own, until the shutdown; returns its port."""
        self._exposition, _ = start_http_server(port, addr=host, registry=self._registry)
        return self._exposition.server_port

    def create(self, instrument: Instrument) -> Any:
        """What records a metric: its `add`, `record` or `set` takes a value and attributes."""
        told = {"unit": instrument.unit, "description": instrument.description}
        match instrument.kind:
            case Kind.COUNTER:
                return self._meter.create_counter(instrument.name, **told)
            case Kind.UP_DOWN_COUNTER:
                return self._meter.create_up_down_counter(instrument.name, **told)
            case Kind.GAUGE:
                return self._meter.create_gauge(instrument.name, **told)
            case Kind.HISTOGRAM:
                return self._meter.create_histogram(
                    instrument.name, **told, explicit_bucket_boundaries_advisory=instrument.buckets
                )
            case Kind.OBSERVED_GAUGE:
                raise ValueError(f"{instrument.name} is observed, not recorded")

    def observe(self, instrument: Instrument, look: Callable[[], Observations]) -> None:
        """Has a metric looked up whenever somebody asks."""

        def observed(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(value, dict(attributes)) for value, attributes in look()]

        told = {"unit": instrument.unit, "description": instrument.description}
        self._meter.create_observable_gauge(instrument.name, [observed], **told)

    def shutdown(self, seconds: float = 5.0) -> None:
        """Ends the exposition, and sends what is left, for as long and no longer: a collector may be away."""
        if self._exposition is not None:
            self._exposition.shutdown()
            self._exposition.server_close()
        # The SDK's own limits do not hold. A daemon's end is not waited for.
        sending = threading.Thread(target=self._shut_down, daemon=True)
        sending.start()
        sending.join(seconds)

    def _shut_down(self) -> None:
        try:
            if self._tracers is not None:
                self._tracers.shutdown()
            self._meters.shutdown()
        except Exception:
            _log.warning("what was left to tell was not told", exc_info=True)


def _tracers(resource: Resource, meters: MeterProvider) -> TracerProvider:
    # Whoever calls decides, where they do.
    sampler = ParentBased(TraceIdRatioBased(float(os.environ.get(RATIO, "1"))))
    provider = TracerProvider(sampler=sampler, resource=resource, meter_provider=meters)
    if captures_content():
        # What is no number the SDK takes for its default, which is more.
        queue = os.environ.get(_QUEUE, "")
        most = int(queue) if queue.isdecimal() else _BATCH_WITH_CONTENT
        os.environ.setdefault(_BATCH, str(min(_BATCH_WITH_CONTENT, most)))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), meter_provider=meters))
    return provider


def captures_content() -> bool:
    """Whether the environment asks for what callers ask and are answered, in spans."""
    return os.environ.get(names.CAPTURE_VARIABLE, "").upper() == names.CAPTURED
