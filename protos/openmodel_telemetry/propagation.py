"""Who called, and who calls, in the metadata of gRPC calls: W3C trace context."""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry.context import Context
from opentelemetry.trace import Span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()
Metadata = tuple[str, str | bytes]
KEYS = frozenset(_PROPAGATOR.fields)
"""Of the metadata."""


def caller_of(metadata: Iterable[Metadata]) -> Context:
    """Whoever called; a context of nobody when the metadata does not say."""
    return _PROPAGATOR.extract({key: value for key, value in metadata if isinstance(value, str)}, Context())


def metadata_of(span: Span) -> tuple[Metadata, ...]:
    """What tells whoever is called next that this span called."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, set_span_in_context(span))
    return tuple(carrier.items())
