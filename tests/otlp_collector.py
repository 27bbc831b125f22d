"""An OpenTelemetry collector for tests: takes spans over OTLP and keeps them; or takes connections and says nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as pb_grpc


@dataclass(frozen=True)
class SeenSpan:
    """A span as it came."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    begin: int
    end: int
    attributes: dict[str, Any]
    events: list[str]
    error: bool


class Collector(pb_grpc.TraceServiceServicer):
    """TraceService."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[SeenSpan] = []
        self.hangs = False
        self._released = threading.Event()
        self.port = 0

    def Export(self, request: pb.ExportTraceServiceRequest, context: Any) -> pb.ExportTraceServiceResponse:
        if self.hangs:
            self._released.wait()
            context.abort(grpc.StatusCode.UNAVAILABLE, "was away")
        with self._lock:
            for group in request.resource_spans:
                service = {item.key: item.value.string_value for item in group.resource.attributes}["service.name"]
                for scope in group.scope_spans:
                    self._spans += [_seen(service, span) for span in scope.spans]
        return pb.ExportTraceServiceResponse()

    @property
    def spans(self) -> list[SeenSpan]:
        with self._lock:
            return list(self._spans)

    def release(self) -> None:
        """Lets go of those that hang."""
        self._released.set()


class _Metrics(metrics_grpc.MetricsServiceServicer):
    """MetricsService: takes all, and keeps nothing."""

    def Export(self, request: Any, context: Any) -> metrics_pb.ExportMetricsServiceResponse:
        return metrics_pb.ExportMetricsServiceResponse()


def _seen(service: str, span: Any) -> SeenSpan:
    return SeenSpan(
        service=service,
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        begin=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes={item.key: getattr(item.value, str(item.value.WhichOneof("value"))) for item in span.attributes},
        events=[event.name for event in span.events],
        error=span.status.code == 2,
    )


@contextmanager
def a_collector(host: str = "127.0.0.1") -> Iterator[Collector]:
    """A collector at this address, until the end of the block."""
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    pb_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    metrics_grpc.add_MetricsServiceServicer_to_server(_Metrics(), server)  # type: ignore[no-untyped-call]
    collector.port = server.add_insecure_port(f"{host}:0")
    server.start()
    try:
        yield collector
    finally:
        collector.release()
        server.stop(None).wait()


@dataclass
class Client:
    """Somebody who calls, and is traced."""

    trace: str = "4bf92f3577b34da6a3ce929d0e0e4736"
    span: str = "00f067aa0ba902b7"
    sampled: bool = True
    metadata: tuple[tuple[str, str], ...] = field(init=False)

    def __post_init__(self) -> None:
        self.metadata = (("traceparent", f"00-{self.trace}-{self.span}-{int(self.sampled):02x}"),)
