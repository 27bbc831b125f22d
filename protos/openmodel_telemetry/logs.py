"""How all programs log: a JSON object a line, with the trace that it belongs to. Never what callers send or get.

Fields are OpenTelemetry's (`timestamp`, `severity`, `body`, `trace_id`, `span_id`), the name of the `logger` and the
traceback of an `exception`.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, format_span_id, format_trace_id, get_current_span


class JsonFormatter(logging.Formatter):
    """A record as one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        told: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "severity": record.levelname,
            "logger": record.name,
            "body": record.getMessage(),
        }
        span = getattr(record, "caller", None) or get_current_span().get_span_context()
        if isinstance(span, SpanContext) and span.is_valid:
            told |= {"trace_id": format_trace_id(span.trace_id), "span_id": format_span_id(span.span_id)}
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False, default=str)


def of_caller(parent: Context | None) -> dict[str, SpanContext]:
    """`extra` of a record about a call: whose it is."""
    return {} if parent is None else {"caller": get_current_span(parent).get_span_context()}


def configure_logging() -> None:
    """Sets up logging for the process."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
