"""A gRPC server for each port: by the port a call came to, it is known which model is meant."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

import grpc

from openmodel_router.caller import Context
from openmodel_router.routes import Routes
from openmodel_router.settings import Settings

_log = logging.getLogger(__name__)
# After a model has lost its port calls may come by an old way for a while.
_LINGER_SECONDS = 60.0

Handle = Callable[[int, str, Context], Awaitable[None]]
"""Port and method of a call, and the call."""


class _AnyMethod(grpc.GenericRpcHandler):
    """Every method of every service, as bytes."""

    def __init__(self, port: int, handle: Handle) -> None:
        self._port = port
        self._handle = handle

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        method = handler_call_details.method

        async def call(_: object, context: Context) -> None:
            await self._handle(self._port, method, context)

        return grpc.stream_stream_rpc_method_handler(call)


class Doors:
    """The ports that are open."""

    def __init__(self, routes: Routes, handle: Handle, settings: Settings) -> None:
        self._routes = routes
        self._handle = handle
        self._settings = settings
        self._open: dict[int, grpc.aio.Server] = {}
        self._unused: dict[int, float] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.opened = asyncio.Event()
        """Set once the ports of all models known so far have been opened."""

    async def run(self) -> None:
        """Opens and closes ports as models have them, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._routes.changed.clear()
            wanted = self._routes.ports()
            for port in sorted(wanted - set(self._open)):
                await self._open_port(port)
            self.opened.set()
            for port in set(self._open) - wanted:
                if loop.time() - self._unused.setdefault(port, loop.time()) >= _LINGER_SECONDS:
                    self._close_port(port)
            self._unused = {port: since for port, since in self._unused.items() if port not in wanted}
            with suppress(TimeoutError):
                async with asyncio.timeout(_LINGER_SECONDS if self._unused or wanted - set(self._open) else None):
                    await self._routes.changed.wait()

    async def drain(self, seconds: float) -> None:
        """Takes no new calls, and lets those there are end for so long."""
        await asyncio.gather(*(server.stop(seconds) for server in self._open.values()))

    async def close(self) -> None:
        """Ends every call that is left."""
        await asyncio.gather(*(server.stop(None) for server in self._open.values()), *self._closing)

    async def _open_port(self, port: int) -> None:
        # Held ones and passed ones; beyond, gRPC itself refuses with RESOURCE_EXHAUSTED.
        most = 2 * self._settings.max_held_calls_per_model
        server = grpc.aio.server(options=_options(self._settings), maximum_concurrent_rpcs=most)
        server.add_generic_rpc_handlers((_AnyMethod(port, self._handle),))
        try:
            server.add_insecure_port(f"{self._settings.host}:{port}")
            await server.start()
        except RuntimeError as error:
            _log.error("port %d can not be opened, again in %.0f s: %s", port, _LINGER_SECONDS, error)
            return
        self._open[port] = server

    def _close_port(self, port: int) -> None:
        self._unused.pop(port, None)
        # What was passed on goes on; what is held is told that nothing comes.
        task = asyncio.ensure_future(self._open.pop(port).stop(self._settings.drain_seconds))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # What a held call has sent waits with its sender, but for one window.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 16 << 10),
        # The next call of a client finds the pods, if there are any by now; those under way go on.
        ("grpc.max_connection_age_ms", round(settings.connection_seconds * 1000)),
        # Clients may ping an idle stream every 10 s, and more often than gRPC's default allows.
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.so_reuseport", 0),
    ]
