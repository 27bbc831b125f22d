"""The front's gRPC servers: inference on one port, plaintext health for the kubelet on another.

Two servers, so that the health port stays plaintext when the other gets TLS. Knows channels and ports; knows no model.
"""

from __future__ import annotations

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from openmodel_protos import grpc_service_pb2 as pb
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc
from openmodel_runtime.config import ServerConfig
from openmodel_runtime.front.servicer import InferenceServicer

_SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
LIVENESS = "liveness"
"""Health service name that serves as long as the front does; the other names follow the model."""
_CONNECTION_AGE_MS = 600_000
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Front:
    """Both servers and the health that they report."""

    def __init__(self, config: ServerConfig, servicer: InferenceServicer) -> None:
        self._names = ("", _SERVICE, config.model_name)
        self._health = health.aio.HealthServicer()
        self._inference = grpc.aio.server(options=_options(config))
        pb_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, self._inference)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._inference)
        names = (_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._inference)
        self._kubelet = grpc.aio.server()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._kubelet)
        self.port = self._inference.add_insecure_port(f"{config.host}:{config.grpc_port}")
        self._kubelet.add_insecure_port(f"{config.host}:{config.health_port}")

    async def start(self) -> None:
        """Listens; not ready yet."""
        await self._health.set(LIVENESS, _SERVING)
        await self.set_ready(False)
        await self._kubelet.start()
        await self._inference.start()

    async def set_ready(self, ready: bool) -> None:
        """Tells watchers and probes."""
        for name in self._names:
            await self._health.set(name, _SERVING if ready else _NOT_SERVING)

    async def drain(self, seconds: float) -> None:
        """Takes no new call, lets calls under way finish for `seconds`, then ends what is left."""
        await self.set_ready(False)
        await self._inference.stop(seconds)
        await self._kubelet.stop(None)


def _options(config: ServerConfig) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", config.max_message_bytes),
        # A channel lives for hours and would pin its pod; at this age the client connects again, calls go on.
        ("grpc.max_connection_age_ms", _CONNECTION_AGE_MS),
        # Clients may ping an idle stream every 10 s, and more often than gRPC's default allows.
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.so_reuseport", 0),
    ]
