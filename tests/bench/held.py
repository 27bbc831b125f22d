"""What a held call costs the router: memory of its process by calls that wait, over few connections and one each."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

import grpc

from bench.measure.child import Child
from bench.report import write_result
from openmodel_protos import demand_pb2, demand_pb2_grpc
from router_parts import HOST, a_request, free_port

CALLS = 1000
# What a prompt of a few thousand tokens has.
BYTES = 16 << 10
_METHOD = "/inference.GRPCInferenceService/ModelInfer"


def main() -> None:
    """Measures, prints and writes the result."""
    argparse.ArgumentParser(description=__doc__).parse_known_args()
    rows = [asyncio.run(_measure(connections)) for connections in (10, CALLS)]
    for row in rows:
        print(row)
    print(write_result("held", rows))


async def _measure(connections: int) -> dict[str, Any]:
    ports = [free_port() for _ in range(4)]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bench.measure.held_router", *map(str, ports)]
        with Child(command, Path(folder) / "log") as router:
            return await _hold(router, ports[0], ports[1], connections)


async def _hold(router: Child, door: int, control: int, connections: int) -> dict[str, Any]:
    option = (("grpc.use_local_subchannel_pool", 1),)
    channels = [grpc.aio.insecure_channel(f"{HOST}:{door}", options=option) for _ in range(connections)]
    request = a_request("1", b"x" * BYTES).SerializeToString()
    async with grpc.aio.insecure_channel(f"{HOST}:{control}") as operator:
        stub: Any = demand_pb2_grpc.DemandStub(operator)
        reports = stub.Watch(demand_pb2.DemandRequest(), wait_for_ready=True)
        await reports.read()
        before = _rss_kib(router.session)
        calls = [asyncio.ensure_future(_call(channels[number % connections], request)) for number in range(CALLS)]
        held = 0
        while held < CALLS:
            report = await reports.read()
            held = next((model.held for model in report.models), held)
        after = _rss_kib(router.session)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await asyncio.gather(*(channel.close() for channel in channels))
    return {
        "calls": CALLS,
        "connections": connections,
        "bytes": BYTES,
        "kib_per_call": round((after - before) / CALLS, 1),
    }


async def _call(channel: grpc.aio.Channel, request: bytes) -> bytes:
    infer: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_METHOD)
    return await infer(request, wait_for_ready=True)


def _rss_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


if __name__ == "__main__":
    main()
