"""What the runtime records.

Knows numbers and attributes, never text: no prompt and no completion can get here.
"""

from __future__ import annotations

from openmodel_runtime.group.report import GroupReport
from openmodel_runtime.rank.messages import Loaded, StepDone
from openmodel_runtime.telemetry.ended_request import EndedRequest
from openmodel_telemetry import metrics as table
from openmodel_telemetry import names
from openmodel_telemetry.providers import Telemetry


class RuntimeMetrics:
    """Instruments of one runtime."""

    def __init__(self, telemetry: Telemetry, model_name: str) -> None:
        self._attributes = {names.PROVIDER_NAME: "openmodel", names.REQUEST_MODEL: model_name}
        self._duration = telemetry.create(table.REQUEST_DURATION)
        self._first = telemetry.create(table.TIME_TO_FIRST_TOKEN)
        self._per_token = telemetry.create(table.TIME_PER_OUTPUT_TOKEN)
        self._queue = telemetry.create(table.QUEUE_DURATION)
        self._input_tokens = telemetry.create(table.INPUT_TOKENS)
        self._cached_tokens = telemetry.create(table.CACHED_TOKENS)
        self._output_tokens = telemetry.create(table.OUTPUT_TOKENS)
        self._deaths = telemetry.create(table.RANK_DEATHS)
        self._running = telemetry.create(table.REQUESTS_RUNNING)
        self._waiting = telemetry.create(table.REQUESTS_WAITING)
        self._waiting_tokens = telemetry.create(table.WAITING_TOKENS)
        self._free = telemetry.create(table.KV_CACHE_FREE_TOKENS)
        self._cache = telemetry.create(table.KV_CACHE_TOKENS)
        self._gap = telemetry.create(table.GROUP_GAP)
        self._epoch = telemetry.create(table.GROUP_EPOCH)
        self._ranks = telemetry.create(table.GROUP_RANKS)
        self._missing = telemetry.create(table.GROUP_MISSING_EXPERTS)
        self._imbalance = telemetry.create(table.EXPERT_IMBALANCE)
        self._hottest = telemetry.create(table.EXPERT_HOTTEST)
        self._load = telemetry.create(table.LOAD_DURATION)
        # A series that is born with its first event has not increased for whoever watches.
        self._deaths.add(0, self._attributes)

    def request_ended(self, request: EndedRequest) -> None:
        """Books a request."""
        attributes = {**self._attributes, names.OPERATION_NAME: request.operation}
        outcome = {names.ERROR_TYPE: request.error} if request.error else {}
        self._duration.record(request.duration_seconds, {**attributes, **outcome})
        self._input_tokens.add(request.input_tokens, attributes)
        self._cached_tokens.add(request.cached_tokens, attributes)
        self._output_tokens.add(request.output_tokens, attributes)
        if request.queue_seconds is not None:
            self._queue.record(request.queue_seconds, attributes)
        if request.first_token_seconds is not None:
            self._first.record(request.first_token_seconds, attributes)
            if request.output_tokens > 1:
                rest = request.duration_seconds - request.first_token_seconds
                self._per_token.record(rest / (request.output_tokens - 1), attributes)

    def step_done(self, step: StepDone) -> None:
        """Books what a step left behind."""
        self._running.set(step.running, self._attributes)
        self._waiting.set(step.waiting, self._attributes)
        self._waiting_tokens.set(step.waiting_tokens, self._attributes)
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
