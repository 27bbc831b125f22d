"""A request's spans: the whole, and its time in the queue, of its prompt, and of its tokens.

Made when it has ended, from its times: while it runs, nothing is done for them. Of a completion one span, however many
tokens it has. What was asked and answered stands in the whole's attributes where it was kept.
"""

from __future__ import annotations

import logging
import time

from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, set_span_in_context

from openmodel_runtime.telemetry.content import Content
from openmodel_runtime.telemetry.ended_request import EndedRequest
from openmodel_telemetry import names

_log = logging.getLogger(__name__)
Phase = tuple[str, int | None, int | None]


class RequestSpans:
    """Makes them."""

    def __init__(self, tracer: Tracer, model: str, revision: str) -> None:
        self._tracer = tracer
        self._model = model
        self._revision = revision

    def request_ended(self, request: EndedRequest) -> None:
        """Of a request that came with whoever called it."""
        if request.parent is None:
            return
        # Spans have times of the day; the steady clock is what durations are true in.
        offset = time.time_ns() - time.monotonic_ns()
        whole = self._tracer.start_span(
            f"{request.operation} {self._model}",
            context=request.parent,
            kind=SpanKind.SERVER,
            start_time=request.received + offset,
            attributes=self._attributes(request),
        )
        if whole.is_recording():
            if request.content is not None:
                whole.set_attributes(_told(request.content))
            if request.error:
                whole.set_status(Status(StatusCode.ERROR, request.error))
            inside = set_span_in_context(whole, request.parent)
            for name, begin, end in _phases(request):
                if begin is not None and end is not None:
                    span = self._tracer.start_span(name, context=inside, start_time=begin + offset)
                    if name == names.DECODE_SPAN:
                        span.add_event(names.FIRST_TOKEN_EVENT, timestamp=begin + offset)
                    span.end(max(begin, end) + offset)
        whole.end(request.ended + offset)

    def _attributes(self, request: EndedRequest) -> dict[str, str | int | float]:
        told: dict[str, str | int | float] = {
            names.OPERATION_NAME: request.operation,
            names.PROVIDER_NAME: "openmodel",
            names.REQUEST_MODEL: self._model,
            names.REVISION: self._revision,
            names.INPUT_TOKENS: request.input_tokens,
            names.CACHED_TOKENS: request.cached_tokens,
            names.OUTPUT_TOKENS: request.output_tokens,
        }
        if request.exchange_seconds:
            told[names.EXCHANGE_SECONDS] = request.exchange_seconds
        if request.error:
            told[names.ERROR_TYPE] = request.error
        return told


def _told(content: Content) -> dict[str, str | bool]:
    try:
        return content.attributes()
    except Exception:
        # It has what callers wrote, whatever that is: not telling of it is no reason to fail them. Nothing of it is
        # logged.
        _log.error("what a request asked and was answered could not be told")
        return {}


def _phases(request: EndedRequest) -> tuple[Phase, ...]:
    return (
        # One that was given up meanwhile has what it has.
        (names.QUEUE_SPAN, request.queued, request.admitted or request.ended),
        (names.PREFILL_SPAN, request.admitted, request.first_token or request.ended),
        (names.DECODE_SPAN, request.first_token, request.ended),
    )
