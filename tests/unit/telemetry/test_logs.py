"""A log line: one JSON object, whatever is in it, with the trace that it belongs to."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

from openmodel_telemetry.logs import JsonFormatter, of_caller
from openmodel_telemetry.propagation import caller_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def line(message: str, *arguments: object, exc_info: Any = None, **extra: Any) -> dict[str, Any]:
    record = logging.LogRecord("a.logger", logging.WARNING, __file__, 1, message, arguments, exc_info)
    for name, value in extra.items():
        setattr(record, name, value)
    text = JsonFormatter().format(record)
    assert "\n" not in text
    told: dict[str, Any] = json.loads(text)
    return told


def test_a_line_is_an_object_whatever_the_message_has() -> None:
    told = line('two\nlines and "%s"', "quotes")
    assert told["body"] == 'two\nlines and "quotes"'
    assert (told["severity"], told["logger"]) == ("WARNING", "a.logger")
    assert told["timestamp"].endswith("+00:00")
    assert "trace_id" not in told


def test_an_exception_is_in_the_same_line() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        told = line("failed", exc_info=sys.exc_info())
    assert told["exception"].endswith("ValueError: no")


def test_the_trace_is_the_present_spans_or_the_callers() -> None:
    with TracerProvider().get_tracer("test").start_as_current_span("look") as span:
        assert line("in it")["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    caller = caller_of([("traceparent", f"00-{TRACE}-{SPAN}-01")])
    told = line("a call", **of_caller(caller))
    assert (told["trace_id"], told["span_id"]) == (TRACE, SPAN)
    assert "trace_id" not in line("nobody's", **of_caller(caller_of([])), **of_caller(None))
