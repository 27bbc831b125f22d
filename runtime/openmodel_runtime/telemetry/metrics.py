"""The runtime's metrics, recorded through OpenTelemetry and exposed for Prometheus.

Knows numbers and attributes, never text: no prompt and no completion can get here.
"""

from __future__ import annotations

from collections.abc import Sequence
from wsgiref.simple_server import WSGIServer

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Histogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, start_http_server

from openmodel_runtime.group.report import GroupReport
from openmodel_runtime.rank.messages import Loaded, StepDone
from openmodel_runtime.telemetry import names
from openmodel_runtime.telemetry.ended_request import EndedRequest


class RuntimeMetrics:
    """Instruments of one runtime."""

    def __init__(self, model_name: str) -> None:
        self._registry = CollectorRegistry()
        provider = MeterProvider(
            metric_readers=[PrometheusMetricReader(registry=self._registry)],
            resource=Resource.create({"service.name": "openmodel-runtime"}),
        )
        self._meter = provider.get_meter("openmodel_runtime")
        self._attributes = {
            names.PROVIDER_NAME: "openmodel",
            names.REQUEST_MODEL: model_name,
        }
        self._duration = self._histogram(names.REQUEST_DURATION, names.REQUEST_DURATION_BUCKETS)
        self._first = self._histogram(names.TIME_TO_FIRST_TOKEN, names.TIME_TO_FIRST_TOKEN_BUCKETS)
        self._per_token = self._histogram(names.TIME_PER_OUTPUT_TOKEN, names.TIME_PER_OUTPUT_TOKEN_BUCKETS)
        self._input_tokens = self._meter.create_counter(names.INPUT_TOKENS, unit="{token}")
        self._output_tokens = self._meter.create_counter(names.OUTPUT_TOKENS, unit="{token}")
        self._deaths = self._meter.create_counter(names.RANK_DEATHS, unit="{process}")
        self._running = self._meter.create_gauge(names.REQUESTS_RUNNING, unit="{request}")
        self._waiting = self._meter.create_gauge(names.REQUESTS_WAITING, unit="{request}")
        self._free = self._meter.create_gauge(names.KV_CACHE_FREE_TOKENS, unit="{token}")
        self._cache = self._meter.create_gauge(names.KV_CACHE_TOKENS, unit="{token}")
        self._gap = self._histogram(names.GROUP_GAP, names.GROUP_GAP_BUCKETS)
        self._epoch = self._meter.create_gauge(names.GROUP_EPOCH, unit="{epoch}")
        self._ranks = self._meter.create_gauge(names.GROUP_RANKS, unit="{rank}")
        self._missing = self._meter.create_gauge(names.GROUP_MISSING_EXPERTS, unit="{expert}")
        self._imbalance = self._meter.create_gauge(names.EXPERT_IMBALANCE, unit="1")
        self._hottest = self._meter.create_gauge(names.EXPERT_HOTTEST, unit="1")
        self._load = self._meter.create_gauge(names.LOAD_SECONDS, unit="s")

    def _histogram(self, name: str, buckets: Sequence[float]) -> Histogram:
        return self._meter.create_histogram(name, unit="s", explicit_bucket_boundaries_advisory=buckets)

    def serve(self, host: str, port: int) -> WSGIServer:
        """Starts the exposition in a thread of its own."""
        server, _ = start_http_server(port, addr=host, registry=self._registry)
        return server

    def request_ended(self, request: EndedRequest) -> None:
        """Books a request."""
        attributes = {**self._attributes, names.OPERATION_NAME: request.operation}
        outcome = {names.ERROR_TYPE: request.error} if request.error else {}
        self._duration.record(request.duration_seconds, {**attributes, **outcome})
        self._input_tokens.add(request.input_tokens, attributes)
        self._output_tokens.add(request.output_tokens, attributes)
        if request.first_token_seconds is not None:
            self._first.record(request.first_token_seconds, attributes)
            if request.output_tokens > 1:
                rest = request.duration_seconds - request.first_token_seconds
                self._per_token.record(rest / (request.output_tokens - 1), attributes)

    def step_done(self, step: StepDone) -> None:
        """Books what a step left behind."""
        self._running.set(step.running, self._attributes)
        self._waiting.set(step.waiting, self._attributes)
        self._free.set(step.free_tokens, self._attributes)

    def loaded(self, loaded: Loaded) -> None:
        """Books a load."""
        self._load.set(loaded.load_seconds, self._attributes)
        self._cache.set(loaded.kv_cache_tokens, self._attributes)

    def group_changed(self, report: GroupReport) -> None:
        """Books what the group is like; of each layer two numbers, however many experts it has."""
        self._epoch.set(report.epoch, self._attributes)
        self._ranks.set(report.coverage.ranks, self._attributes)
        self._missing.set(report.coverage.missing, self._attributes)
        for layer, load in report.layers.items():
            attributes: dict[str, str | int] = {**self._attributes, names.LAYER: layer}
            self._imbalance.set(load.imbalance, attributes)
            self._hottest.set(load.hottest, attributes)

    def stood_still(self, seconds: float) -> None:
        """Books how long a rank with requests made no token while it changed its group."""
        self._gap.record(seconds, self._attributes)

    def rank_died(self) -> None:
        """Books the end of a rank process that nobody asked for."""
        self._deaths.add(1, self._attributes)
