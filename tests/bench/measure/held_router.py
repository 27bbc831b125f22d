"""`python -m bench.measure.held_router DOOR CONTROL HEALTH METRICS` (ports): a router with one model that sleeps."""

from __future__ import annotations

import asyncio
import sys

from openmodel_router.main import Router
from openmodel_router.routes import Routes
from openmodel_router.settings import Settings
from router_parts import HOST, ToldWatch, a_slice


async def _run(ports: list[int]) -> None:
    door, control, health, metrics = ports
    routes = Routes()
    routes.put(a_slice("m", door=door))
    settings = Settings(
        host=HOST,
        control_port=control,
        health_port=health,
        metrics_port=metrics,
        max_held_calls=5000,
        max_held_calls_per_model=5000,
        # A connection that is closed for its age would be counted as free.
        connection_seconds=3600.0,
    )
    await Router(settings, routes, ToldWatch()).run()


if __name__ == "__main__":
    asyncio.run(_run([int(argument) for argument in sys.argv[1:]]))
