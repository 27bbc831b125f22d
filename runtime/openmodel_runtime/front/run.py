"""The front's life: start, serve while the rank lives, drain on SIGTERM.

The one place where the parts are put together.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress

from openmodel_runtime.checkpoint.model_card import card_license
from openmodel_runtime.config import EngineConfig, GroupConfig, ServerConfig
from openmodel_runtime.front.activity import Activity
from openmodel_runtime.front.generation import Generator
from openmodel_runtime.front.health import Health
from openmodel_runtime.front.inference import Inference
from openmodel_runtime.front.load import LoadServicer
from openmodel_runtime.front.server import SERVICE, Front
from openmodel_runtime.front.servicer import InferenceServicer
from openmodel_runtime.front.statistics import Statistics
from openmodel_runtime.group.peers import NoPeers, PeerStreams
from openmodel_runtime.group.supervisor import RankSupervisor
from openmodel_runtime.telemetry.metrics import RuntimeMetrics
from openmodel_runtime.telemetry.spans import RequestSpans
from openmodel_telemetry import names
from openmodel_telemetry.providers import Telemetry

_log = logging.getLogger(__name__)
_HAND_OVER_SECONDS = 10.0


async def serve(server: ServerConfig, engine: EngineConfig, group: GroupConfig) -> None:
    """Serves until SIGTERM or SIGINT; StartError when the model can not be served."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    telemetry = Telemetry("openmodel-runtime", **{names.MODEL: server.model_name, names.REVISION: server.model_version})
    metrics = RuntimeMetrics(telemetry, server.model_name)
    health = Health(("", SERVICE, server.model_name))
    peers = PeerStreams(group, server.model_version) if group.peers else NoPeers()
    rank = RankSupervisor(server.model_path, engine, group, peers, on_ready=health.set_ready, metrics=metrics)
    activity = Activity()
    statistics = Statistics(
        sinks=(metrics, activity, RequestSpans(telemetry.tracer, server.model_name, server.model_version))
    )
    generator = Generator(server.model_path, rank, server.max_waiting_requests)
    inference = Inference(
        server.model_name, server.model_version, generator, statistics, activity, captures=telemetry.captures
    )
    servicer = InferenceServicer(
        name=server.model_name,
        version=server.model_version,
        card_license=card_license(server.model_path),
        inference=inference,
        statistics=statistics,
        rank=rank,
        traces=telemetry.traces,
    )
    telemetry.serve(server.host.strip("[]"), server.metrics_port)
    front = Front(server, servicer, LoadServicer(rank, activity), health)
    await front.start()
    _log.info("listening on port %d; loading %s", front.port, server.model_path)
    running = asyncio.create_task(rank.run())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
        _log.info("draining: %d requests under way", generator.under_way)
        rank.drain()
        until = loop.time() + server.settle_seconds + server.drain_seconds + _HAND_OVER_SECONDS
        await front.drain(server.settle_seconds, server.drain_seconds)
        with suppress(TimeoutError):
            # Others that drain as well may need the experts for as long as they have.
            await asyncio.wait_for(rank.hand_over(), until - loop.time())
    finally:
        for task in (running, stopping):
            task.cancel()
        await asyncio.gather(running, stopping, return_exceptions=True)
        await front.stop()
        await generator.text.close()
        await asyncio.to_thread(telemetry.shutdown)
