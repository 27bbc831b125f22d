"""Which models calls wait for, as every router tells it.

One stream to each router. What a router holds that does not answer is not known: its calls are lost with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import grpc

from openmodel_operator.cluster import ModelKey
from openmodel_protos import demand_pb2 as pb
from openmodel_protos import demand_pb2_grpc as pb_grpc

_log = logging.getLogger(__name__)
PORT = 9090
"""Of a router."""
_LOOK_SECONDS = 1.0
_RETRY_SECONDS = 1.0
# A router that is gone without a word is missed after this.
_KEEPALIVE = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
)


class RouterDemand:
    """The calls that routers hold.

    Args:
        routers: the routers' addresses now.
        changed: told of each model for which calls begin or cease to wait.
    """

    def __init__(self, routers: Callable[[], list[str]], changed: Callable[[ModelKey], None], port: int = PORT) -> None:
        self._routers = routers
        self._changed = changed
        self._port = port
        self._held: dict[str, dict[ModelKey, int]] = {}

    def held(self, key: ModelKey) -> int:
        """Calls to a model that all routers hold."""
        return sum(models.get(key, 0) for models in self._held.values())

    def models(self) -> set[ModelKey]:
        """Models that calls wait for."""
        return {key for models in self._held.values() for key in models}

    async def run(self) -> None:
        """Listens until cancelled."""
        listening: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                there = self._routers()
                for router in [router for router in listening if router not in there]:
                    listening.pop(router).cancel()
                for router in there:
                    if router not in listening or listening[router].done():
                        listening[router] = asyncio.create_task(self._listen(router))
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            for task in listening.values():
                task.cancel()
            await asyncio.gather(*listening.values(), return_exceptions=True)

    async def _listen(self, router: str) -> None:
        host = f"[{router}]" if ":" in router else router
        while True:
            try:
                async with grpc.aio.insecure_channel(f"{host}:{self._port}", options=_KEEPALIVE) as channel:
                    # Whatever it told before may not hold any more: it tells all of it first.
                    async for report in pb_grpc.DemandStub(channel).Watch(pb.DemandRequest()):
                        self._note(router, report)
            except Exception as error:
                # Whatever it is: one that is not heard is asked again.
                _log.info("router %s does not say what it holds: %s", router, error)
            finally:
                self._forget(router)
            await asyncio.sleep(_RETRY_SECONDS)

    def _note(self, router: str, report: pb.DemandReport) -> None:
        held = self._held.setdefault(router, {})
        for model in report.models:
            key = (model.namespace, model.name)
            before = held.pop(key, 0)
            if model.held:
                held[key] = model.held
            if bool(before) != bool(model.held):
                self._changed(key)

    def _forget(self, router: str) -> None:
        for key in self._held.pop(router, {}):
            self._changed(key)
