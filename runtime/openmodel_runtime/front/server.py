"""The front's gRPC servers: inference on one port, plaintext health for the kubelet on another.

Two servers, so that the health port stays plaintext when the other gets TLS. Knows channels and ports; knows no model.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from openmodel_protos import grpc_service_pb2 as pb
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc
from openmodel_protos import load_pb2, load_pb2_grpc
from openmodel_runtime.config import ServerConfig
from openmodel_runtime.front.health import Health
from openmodel_runtime.front.load import LoadServicer
from openmodel_runtime.front.servicer import InferenceServicer

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
_LOAD = load_pb2.DESCRIPTOR.services_by_name["Load"].full_name
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_CONNECTION_AGE_MS = 600_000
# Two servers on one port would share its calls.
_ONE_LISTENER = ("grpc.so_reuseport", 0)


class Front:
    """Both servers."""

    def __init__(self, config: ServerConfig, servicer: InferenceServicer, load: LoadServicer, health: Health) -> None:
        self._servicer = servicer
        self._health = health
        self._inference = grpc.aio.server(options=_options(config))
        pb_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, self._inference)
        load_pb2_grpc.add_LoadServicer_to_server(load, self._inference)
        health_pb2_grpc.add_HealthServicer_to_server(health, self._inference)
        _add_reflection(self._inference)
        self._kubelet = grpc.aio.server(options=[_ONE_LISTENER])
        health_pb2_grpc.add_HealthServicer_to_server(health, self._kubelet)
        self.port = self._inference.add_insecure_port(f"{config.host}:{config.grpc_port}")
        self._kubelet.add_insecure_port(f"{config.host}:{config.health_port}")

    async def start(self) -> None:
        """Listens."""
        await self._kubelet.start()
        await self._inference.start()

    async def drain(self, settle: float, seconds: float) -> None:
        """Says that it ends, takes requests for `settle` seconds more, lets those under way finish for `seconds`."""
        self._health.drain()
        await asyncio.sleep(settle)
        # Clients are told to go elsewhere now; calls that end with their caller only (watches) must not hold us up.
        refusing = asyncio.create_task(self._inference.stop(seconds))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._servicer.drain(), seconds)
        await self.stop()
        await refusing

    async def stop(self) -> None:
        """Ends every call that is left."""
        await self._inference.stop(None)
        await self._kubelet.stop(None)


def _add_reflection(server: grpc.aio.Server) -> None:
    """Reflection in both versions that clients ask for: their messages are the same."""
    names = (SERVICE, _LOAD, _HEALTH, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    method = grpc.stream_stream_rpc_method_handler(
        reflection.aio.ReflectionServicer(names).ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    newest = "grpc.reflection.v1.ServerReflection"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(newest, {"ServerReflectionInfo": method}),))


def _options(config: ServerConfig) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", config.max_message_bytes),
        # A channel lives for hours and would pin its pod; at this age the client connects again, calls go on.
        ("grpc.max_connection_age_ms", _CONNECTION_AGE_MS),
        # Clients may ping an idle stream every 10 s, and more often than gRPC's default allows.
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        _ONE_LISTENER,
    ]
