"""The router's process: watches say what models there are, doors take their calls, the operator hears of those held."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import sys
from typing import Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from openmodel_protos import demand_pb2_grpc
from openmodel_router.asleep import WATCH, answer, is_answered
from openmodel_router.caller import Context, Memory
from openmodel_router.demand import DemandServicer
from openmodel_router.doors import Doors
from openmodel_router.holding import Holding
from openmodel_router.metrics import RouterMetrics
from openmodel_router.passing import Passing
from openmodel_router.pod_channels import PodChannels
from openmodel_router.routes import Routes
from openmodel_router.settings import Settings, SettingsError
from openmodel_router.slice_watch import SliceWatch
from openmodel_telemetry.logs import configure_logging
from openmodel_telemetry.providers import Telemetry

_log = logging.getLogger("openmodel_router")
# Of a question that needs no pod.
_READ_SECONDS = 10.0
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Watch(Protocol):
    """Keeps routes in step."""

    filled: asyncio.Event
    """Set once all are known."""

    async def run(self) -> None:
        """Works until cancelled."""


class Router:
    """Everything that lives as long as the process."""

    def __init__(self, settings: Settings, routes: Routes, watch: Watch) -> None:
        """`watch` keeps the routes in step with whoever knows."""
        self._settings = settings
        self._telemetry = Telemetry("openmodel-router")
        self._routes = routes
        self._watch = watch
        self._holding = Holding(settings.max_held_calls, settings.max_held_calls_per_model)
        self._channels = PodChannels()
        self._passing = Passing(
            routes=self._routes,
            holding=self._holding,
            channels=self._channels,
            metrics=RouterMetrics(self._telemetry),
            telemetry=self._telemetry,
            memory=Memory(),
            hold_seconds=settings.hold_seconds,
        )
        self._doors = Doors(self._routes, self._handle, settings)
        # The operator asks every few seconds whether a quiet router is still there.
        pings = ("grpc.http2.min_ping_interval_without_data_ms", 5_000)
        self._control = grpc.aio.server(options=(("grpc.so_reuseport", 0), pings))
        demand_pb2_grpc.add_DemandServicer_to_server(DemandServicer(self._holding), self._control)
        self._control.add_insecure_port(f"{settings.host}:{settings.control_port}")
        self._health = health.aio.HealthServicer()
        self._kubelet = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._kubelet)
        self._kubelet.add_insecure_port(f"{settings.host}:{settings.health_port}")

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT, then lets the calls that there are end."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        self._telemetry.serve(self._settings.host.replace("[::]", "0.0.0.0"), self._settings.metrics_port)
        await self._health.set("", _NOT_SERVING)
        # Of the process, however long it takes to know all models.
        await self._health.set("liveness", _SERVING)
        await self._kubelet.start()
        await self._control.start()
        work = [asyncio.create_task(part) for part in (self._watch.run(), self._doors.run(), self._say_ready())]
        stopping = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait({*work[:2], stopping}, return_when=asyncio.FIRST_COMPLETED)
            if stopping not in done:
                # Neither ends by itself.
                await next(iter(done))
            await self._drain()
        finally:
            for task in (*work, stopping):
                task.cancel()
            await asyncio.gather(*work, stopping, return_exceptions=True)
            await self._doors.close()
            await self._channels.close()
            await self._control.stop(None)
            await self._kubelet.stop(None)
            await asyncio.to_thread(self._telemetry.shutdown)

    async def _say_ready(self) -> None:
        await self._watch.filled.wait()
        self._doors.opened.clear()
        self._routes.changed.set()
        await self._doors.opened.wait()
        await self._health.set("", _SERVING)
        _log.info("%d models have a port here", len(self._routes.ports()))

    async def _drain(self) -> None:
        _log.info("draining: %d calls wait", self._holding.held.total())
        await self._health.set("", _NOT_SERVING)
        # New calls still come for as long as it takes for everybody to hear of it.
        await asyncio.sleep(self._settings.settle_seconds)
        await self._doors.drain(self._settings.drain_seconds)

    async def _handle(self, port: int, method: str, context: Context) -> None:
        model = self._routes.model_at(port)
        if model is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "no model has this port any more: connect again")
        if method == WATCH:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "health is not watched through the router: use Check")
        door = self._routes.door(model)
        if not is_answered(method) or door is None or self._routes.pods(model):
            await self._passing.call(model, method, context)
            return
        async with asyncio.timeout(_READ_SECONDS):
            request = await context.read()
        told = answer(method, request, model[1], door.answers) if isinstance(request, bytes) else None
        if told is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"that is another model; this is {model[1]!r}")
        await context.write(told)


async def _run(settings: Settings) -> None:
    routes = Routes()
    await Router(settings, routes, SliceWatch(routes)).run()


def main() -> int:
    """Entry point."""
    configure_logging()
    try:
        settings = Settings.from_env(os.environ)
    except SettingsError as error:
        print(f"openmodel-router: {error}", file=sys.stderr)
        return 2
    # A port is a file, and there may be as many as models.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(_run(settings))
    return 0
