"""A router without an API server: the test tells what slices say, pods are gRPC servers that note what they get."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from openmodel_protos import demand_pb2 as demand_pb
from openmodel_protos import demand_pb2_grpc as demand_grpc
from openmodel_protos import grpc_service_pb2 as pb
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc
from openmodel_router.main import Router
from openmodel_router.routes import PORTS, Routes
from openmodel_router.settings import Settings

Context = grpc.aio.ServicerContext[Any, Any]
HOST = "127.0.0.1"


def free_port() -> int:
    """A port that a model may have, and that was free a moment ago."""
    while True:
        with socket.socket() as listener:
            port = random.randrange(PORTS.start, PORTS.stop)
            try:
                listener.bind((HOST, port))
            except OSError:
                continue
            return port


def a_slice(
    model: str, *, namespace: str = "default", made: str = "2026-01-01T00:00:00Z", **fields: Any
) -> dict[str, Any]:
    """An EndpointSlice of a model's Service: of its pods, or with `door`, a port, the operator's."""
    door, pods = fields.pop("door", None), fields.pop("pods", ())
    labels = {"openmodel.dev/model": model, "kubernetes.io/service-name": fields.pop("service", model)}
    labels["endpointslice.kubernetes.io/managed-by"] = (
        "openmodel-operator" if door else "endpointslice-controller.k8s.io"
    )
    port = door or (int(pods[0].rpartition(":")[2]) if pods else 8001)
    return {
        "metadata": {
            "namespace": namespace,
            "name": fields.pop("name", f"{model}-router" if door else f"{model}-abcde"),
            "labels": labels,
            "annotations": {"openmodel.dev/answers": str(fields.pop("answers", True)).lower()},
            "creationTimestamp": made,
        },
        "endpoints": [
            {"addresses": [pod.rpartition(":")[0]], "conditions": {"ready": fields.get("ready", True)}} for pod in pods
        ],
        "ports": [{"name": "grpc", "port": port}],
    }


class ToldWatch:
    """A watch that knows all from the beginning."""

    def __init__(self) -> None:
        self.filled = asyncio.Event()
        self.filled.set()

    async def run(self) -> None:
        await asyncio.Event().wait()


class Pod:
    """Answers with its name, the request's id and its length; streams as many answers as the id says."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.got: list[pb.ModelInferRequest] = []
        self.metadata: list[tuple[str, str | bytes]] = []
        self.remaining: float | None = None
        self.fails: Callable[[Context], Awaitable[None]] | None = None
        self.cancelled = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    def _answer(self, request: pb.ModelInferRequest, number: int = 0) -> pb.ModelInferResponse:
        return pb.ModelInferResponse(
            model_name=self.name,
            id=f"{request.id}/{number}",
            raw_output_contents=[b"".join(request.raw_input_contents)],
        )

    async def infer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        self.got.append(request)
        self.metadata = list(context.invocation_metadata() or ())
        self.remaining = context.time_remaining()
        if self.fails is not None:
            await self.fails(context)
        try:
            await self.may_go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        context.set_trailing_metadata((("cost", "7"),))
        return self._answer(request)

    async def stream(
        self, requests: AsyncIterator[pb.ModelInferRequest], context: Context
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        async for request in requests:
            self.got.append(request)
            for number in range(int(request.id)):
                yield pb.ModelStreamInferResponse(infer_response=self._answer(request, number))
                await self.may_go_on.wait()
            if self.fails is not None:
                await self.fails(context)


@dataclass
class RunningRouter:
    """A router in this process."""

    routes: Routes
    settings: Settings
    pods: list[grpc.aio.Server] = field(default_factory=list)
    channels: list[grpc.aio.Channel] = field(default_factory=list)

    async def start_pod(self, pod: Pod) -> str:
        """Starts a pod; returns its address."""
        server = grpc.aio.server(options=(("grpc.max_receive_message_length", -1),))
        handlers = {
            "ModelInfer": grpc.unary_unary_rpc_method_handler(
                pod.infer, pb.ModelInferRequest.FromString, pb.ModelInferResponse.SerializeToString
            ),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(
                pod.stream, pb.ModelInferRequest.FromString, pb.ModelStreamInferResponse.SerializeToString
            ),
        }
        service = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        port = server.add_insecure_port(f"{HOST}:0")
        await server.start()
        self.pods.append(server)
        return f"{HOST}:{port}"

    def channel(self, port: int) -> grpc.aio.Channel:
        """A client's channel of its own to a port."""
        options = (
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 50),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
        )
        channel = grpc.aio.insecure_channel(f"{HOST}:{port}", options=options)
        self.channels.append(channel)
        return channel

    def stub(self, port: int) -> Any:
        """The inference service at a port."""
        return pb_grpc.GRPCInferenceServiceStub(self.channel(port))


@asynccontextmanager
async def a_router(**settings: Any) -> AsyncIterator[RunningRouter]:
    """A router, until the end of the block; the ports of models are opened as slices are put."""
    ports = {"control_port": free_port(), "health_port": free_port(), "metrics_port": free_port()}
    given = Settings(host=HOST, settle_seconds=0.0, drain_seconds=5.0, **{**ports, **settings})
    running = RunningRouter(Routes(), given)
    task = asyncio.create_task(Router(given, running.routes, ToldWatch()).run())
    try:
        yield running
    finally:
        for channel in running.channels:
            await channel.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for server in running.pods:
            await server.stop(None)


def a_request(name: str = "1", text: bytes = b"hello") -> pb.ModelInferRequest:
    """A request whose id is `name`."""
    return pb.ModelInferRequest(model_name="m", id=name, raw_input_contents=[text])


async def opened(router: RunningRouter, *models: str, answers: bool = True) -> list[int]:
    """Doors of models, once they are open."""
    ports = []
    for model in models:
        ports.append(free_port())
        router.routes.put(a_slice(model, door=ports[-1], answers=answers))
        await router.channel(ports[-1]).channel_ready()
    return ports


async def held(router: RunningRouter) -> AsyncIterator[dict[str, int]]:
    """What the operator is told is held, by model, from now on."""
    stub = demand_grpc.DemandStub(router.channel(router.settings.control_port))
    told: dict[str, int] = {}
    async for report in stub.Watch(demand_pb.DemandRequest(), wait_for_ready=True):
        told |= {f"{model.namespace}/{model.name}": model.held for model in report.models}
        told = {name: count for name, count in told.items() if count}
        yield told


async def until_held(router: RunningRouter, wanted: dict[str, int]) -> None:
    async with asyncio.timeout(30):
        async for told in held(router):
            if told == wanted:
                return


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value
