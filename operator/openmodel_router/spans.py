"""A call's spans: the whole of it here, under whoever called, and its wait. Without a collector they cost nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from openmodel_router.caller import Context
from openmodel_router.routes import Model
from openmodel_telemetry import names
from openmodel_telemetry.propagation import KEYS, Metadata, caller_of, metadata_of
from openmodel_telemetry.providers import Telemetry

# Of gRPC's own, which the next hop makes anew.
_HOP_KEYS = frozenset(("user-agent", "content-type", "te", "grpc-timeout", "grpc-accept-encoding", "grpc-encoding"))


class CallSpan:
    """One call, while it is here."""

    def __init__(self, telemetry: Telemetry, model: Model, method: str, context: Context) -> None:
        self._telemetry = telemetry
        self._metadata = tuple(context.invocation_metadata() or ())
        self._parent = caller_of(self._metadata) if telemetry.traces else None
        self._span = telemetry.tracer.start_span(
            method.removeprefix("/"),
            context=self._parent,
            kind=SpanKind.SERVER,
            attributes={
                names.RPC_SYSTEM: "grpc",
                names.RPC_METHOD: method.removeprefix("/"),
                names.NAMESPACE: model[0],
                names.MODEL: model[1],
            },
        )

    @property
    def metadata(self) -> tuple[Metadata, ...]:
        """What the pod is told: all that the caller said, and that this call is what calls it."""
        own = metadata_of(self._span) if self._telemetry.traces else ()
        dropped = _HOP_KEYS | (KEYS if own else frozenset())
        return (*((key, value) for key, value in self._metadata if key.lower() not in dropped), *own)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While it waits for a pod."""
        inside = set_span_in_context(self._span, self._parent)
        with self._telemetry.tracer.start_as_current_span(names.HOLD_SPAN, context=inside, record_exception=False):
            yield

    def sent_again(self) -> None:
        """Its pod was lost before it answered."""
        self._span.add_event(names.SENT_AGAIN_EVENT)

    def end(self, error: str | None) -> None:
        """It is over: with the name of a gRPC status, or well."""
        if error is not None:
            self._span.set_attribute(names.ERROR_TYPE, error)
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end()
