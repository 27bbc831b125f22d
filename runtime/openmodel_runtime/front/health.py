"""grpc.health.v1: who serves, for probes and for those who watch.

grpcio's own servicer forgets its other watchers when one of a name leaves, and waits for a watcher that does not read.
Knows names; knows no model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

LIVENESS = "liveness"
"""Health service name that serves as long as the front does; the other names follow the model."""
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

Context = grpc.aio.ServicerContext[Any, Any]


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # the package has no types
    """What each name reports; ready until it drains, when the model is."""

    def __init__(self, names: Iterable[str]) -> None:
        # A model may be called what liveness is called: the probe of the kubelet goes first.
        self._followers = frozenset(names) - {LIVENESS}
        self._statuses: dict[str, int] = {LIVENESS: _SERVING}
        self._changed = asyncio.Event()
        self._draining = False
        self.set_ready(False)

    def set_ready(self, ready: bool) -> None:
        """Tells watchers and probes whether the model serves."""
        status = _SERVING if ready and not self._draining else _NOT_SERVING
        self._statuses |= dict.fromkeys(self._followers, status)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def drain(self) -> None:
        """Not ready from now on, whatever the model does."""
        self._draining = True
        self.set_ready(False)

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> health_pb2.HealthCheckResponse:
        """The status of a name; NOT_FOUND for one that is not known."""
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown health service name")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:
        """The status now and whenever it changes; SERVICE_UNKNOWN, as the protocol has it, for a name not known."""
        told: int | None = None
        while True:
            changed = self._changed
            status = self._statuses.get(request.service, _UNKNOWN)
            if status != told:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                told = status
            await changed.wait()
