"""grpc.health.v1 on both ports, and server reflection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from contract.infer_requests import MODEL
from contract.runtime_server import SERVING, RuntimeServer
from openmodel_protos import grpc_service_pb2 as pb
from openmodel_runtime.front.health import LIVENESS, Context, Health
from openmodel_runtime.front.server import SERVICE

NAMES = ["", SERVICE, MODEL, LIVENESS]
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(params=["inference port", "health port"])
def health(request: pytest.FixtureRequest, server: RuntimeServer) -> Iterator[health_pb2_grpc.HealthStub]:
    address = server.address if request.param == "inference port" else server.health_address
    with grpc.insecure_channel(address) as channel:
        yield health_pb2_grpc.HealthStub(channel)


def named(service: str) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


@pytest.mark.parametrize("name", NAMES)
def test_a_known_name_serves(health: health_pb2_grpc.HealthStub, name: str) -> None:
    assert health.Check(named(name)).status == SERVING
    watch = health.Watch(named(name))
    assert next(watch).status == SERVING
    watch.cancel()


def test_an_unknown_name_is_not_found(health: health_pb2_grpc.HealthStub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(named("nobody"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    watch = health.Watch(named("nobody"))
    assert next(watch).status == UNKNOWN
    watch.cancel()


def test_the_health_port_serves_nothing_else(server: RuntimeServer) -> None:
    with grpc.insecure_channel(server.health_address) as channel:
        live = channel.unary_unary(
            f"/{SERVICE}/ServerLive",
            request_serializer=pb.ServerLiveRequest.SerializeToString,
            response_deserializer=pb.ServerLiveResponse.FromString,
        )
        with pytest.raises(grpc.RpcError) as caught:
            live(pb.ServerLiveRequest())
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_a_model_called_liveness_does_not_get_its_pod_killed() -> None:
    health = Health(("", LIVENESS))
    nobody = cast("Context", None)
    assert (await health.Check(named(LIVENESS), nobody)).status == SERVING
    assert (await health.Check(named(""), nobody)).status == NOT_SERVING
    health.drain()
    health.set_ready(True)
    assert (await health.Check(named(LIVENESS), nobody)).status == SERVING
    assert (await health.Check(named(""), nobody)).status == NOT_SERVING


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_the_services_and_describes_them(server: RuntimeServer, version: str) -> None:
    with grpc.insecure_channel(server.address) as channel:
        ask = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        asked = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
        ]
        listed, described = ask(iter(asked))
    services = {service.name for service in listed.list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= services
    assert pb.DESCRIPTOR.serialized_pb in list(described.file_descriptor_response.file_descriptor_proto)
