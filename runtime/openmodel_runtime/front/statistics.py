"""Counts and durations of requests, for ModelStatistics and for the metrics.

Success is a request that was answered; what was refused is a failure, and what the caller gave up is a cancellation.
The clock is an argument. Durations are nanoseconds, as the protocol has them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from openmodel_protos import grpc_service_pb2 as pb
from openmodel_runtime.telemetry.content import Content
from openmodel_runtime.telemetry.ended_request import EndedRequest, Parent

Clock = Callable[[], int]
CANCELLED = "CANCELLED"


class RequestTimer:
    """When the phases of one request happened."""

    def __init__(self, clock: Clock = time.monotonic_ns) -> None:
        self._clock = clock
        self.received = clock()
        self.queued: int | None = None
        self.admitted: int | None = None
        self.first_token: int | None = None
        self.cached_tokens = 0
        self.exchange_seconds = 0.0
        self.parent: Parent = None
        """Whoever called, as OpenTelemetry knows them."""
        self.content: Content | None = None
        """What was asked and answered; None where nobody is to be told."""
        self.operation = "text_completion"
        self.input_tokens = 0
        self.output_tokens = 0
        """Tokens of all completions so far; set by whoever looks at them."""

    def tokenized(self, input_tokens: int) -> None:
        """The prompt is tokens and goes to the rank."""
        self.input_tokens = input_tokens
        self.queued = self._clock()

    def admitted_at(self, at_ns: int) -> None:
        """A completion was admitted, on the same clock: the first one counts."""
        if self.admitted is None:
            self.admitted = at_ns

    def exchanged(self, seconds: float) -> None:
        """So long the rank of a completion exchanged rows while it was under way: the longest counts."""
        self.exchange_seconds = max(self.exchange_seconds, seconds)

    def token(self, cached_tokens: int) -> None:
        """A token came, of a prompt of which so much was known: the first one counts."""
        if self.first_token is None:
            self.first_token = self._clock()
            self.cached_tokens = cached_tokens

    def now(self) -> int:
        """The clock."""
        return self._clock()


class RequestSink(Protocol):
    """Whoever else wants to know of each request's end."""

    def request_ended(self, request: EndedRequest) -> None:
        """A request ended, however it did."""


@dataclass(slots=True)
class _Duration:
    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns

    def to_proto(self) -> pb.StatisticDuration:
        return pb.StatisticDuration(count=self.count, ns=self.ns)


@dataclass(slots=True)
class Statistics:
    """What happened since the server started."""

    sinks: Sequence[RequestSink]
    wall_clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    last_inference_ms: int = 0
    responses: int = 0
    _success: _Duration = field(default_factory=_Duration)
    _fail: _Duration = field(default_factory=_Duration)
    _cancel: _Duration = field(default_factory=_Duration)
    _input: _Duration = field(default_factory=_Duration)
    _first: _Duration = field(default_factory=_Duration)
    _rest: _Duration = field(default_factory=_Duration)

    def ended(self, timer: RequestTimer, error: str | None) -> None:
        """Books a request; `error` is a gRPC status name, None for success."""
        end = timer.now()
        duration = end - timer.received
        {None: self._success, CANCELLED: self._cancel}.get(error, self._fail).add(duration)
        if error is None:
            self.last_inference_ms = self.wall_clock_ms()
        if error is None and timer.queued is not None and timer.first_token is not None:
            self._input.add(timer.queued - timer.received)
            self._first.add(timer.first_token - timer.queued)
            self._rest.add(end - timer.first_token)
        ended = EndedRequest(
            operation=timer.operation,
            received=timer.received,
            queued=timer.queued,
            admitted=timer.admitted,
            first_token=timer.first_token,
            ended=end,
            input_tokens=timer.input_tokens,
            cached_tokens=timer.cached_tokens,
            output_tokens=timer.output_tokens,
            exchange_seconds=timer.exchange_seconds,
            error=error,
            parent=timer.parent,
            content=timer.content,
        )
        for sink in self.sinks:
            sink.request_ended(ended)

    def to_proto(self, name: str, version: str) -> pb.ModelStatistics:
        """The protocol's form. `queue` is the wait for the first token: waiting and prefill are one phase here."""
        return pb.ModelStatistics(
            name=name,
            version=version,
            last_inference=self.last_inference_ms,
            inference_count=self._success.count,
            execution_count=self._success.count,
            inference_stats=pb.InferStatistics(
                success=self._success.to_proto(),
                fail=self._fail.to_proto(),
                queue=self._first.to_proto(),
                compute_input=self._input.to_proto(),
                compute_infer=self._rest.to_proto(),
            ),
            response_stats={
                "0": pb.InferResponseStatistics(
                    success=self._success.to_proto(),
                    fail=self._fail.to_proto(),
                    cancel=self._cancel.to_proto(),
                )
            },
        )
