"""KEDA's external scaler over real gRPC, against an API server that is a dictionary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from factories import IDENTITY, a_load
from kube_double import KEY, DictionaryKube, Prover, SeenCluster, controller, no_group, no_tokens
from openmodel_operator.cluster import ModelKey
from openmodel_operator.observer import Observer
from openmodel_operator.probe import Probes
from openmodel_operator.scaling.external_scaler import METRIC, ExternalScaler
from openmodel_operator.scaling.load import PodLoad
from openmodel_operator.scaling.signals import Signals
from openmodel_protos import externalscaler_pb2 as pb
from openmodel_protos import externalscaler_pb2_grpc as pb_grpc


@dataclass
class World:
    """A model, what its pods say and what routers hold, and the scaler's client."""

    kube: DictionaryKube
    load: PodLoad | None = None
    held: int = 0
    scaler: ExternalScaler | None = None
    stub: Any = None

    async def ask_load(self, address: str) -> PodLoad | None:
        return self.load

    def held_of(self, key: ModelKey) -> int:
        return self.held

    async def groups(self) -> float:
        request = pb.GetMetricsRequest(scaledObjectRef=a_ref(), metricName=METRIC)
        (value,) = (await self.stub.GetMetrics(request)).metricValues
        return float(value.metricValueFloat)

    async def active(self) -> bool:
        return bool((await self.stub.IsActive(a_ref())).result)


@asynccontextmanager
async def a_world(**spec: Any) -> AsyncIterator[World]:
    world = World(DictionaryKube(**spec))
    cluster = SeenCluster(world.kube)
    observer = Observer(cluster, Probes(Prover(), no_group, world.ask_load, no_tokens))
    world.scaler = ExternalScaler(cluster, observer, Signals(world.ask_load, world.held_of))
    server = grpc.aio.server()
    pb_grpc.add_ExternalScalerServicer_to_server(world.scaler, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            world.stub = pb_grpc.ExternalScalerStub(channel)
            yield world
    finally:
        await server.stop(None)


def a_ref(**metadata: str) -> pb.ScaledObjectRef:
    given = {"model": IDENTITY.name, "scalerAddress": "here", "waitingTokensPerRank": "1000", **metadata}
    return pb.ScaledObjectRef(name="so", namespace=IDENTITY.namespace, scalerMetadata=given)


async def serving(world: World) -> None:
    """The model serves with one group."""
    subject = controller(world.kube, Prover())
    await subject.reconcile(KEY)
    world.kube.run_pod()
    await subject.reconcile(KEY)


async def test_groups_are_told_as_a_fraction_of_which_each_replica_is_to_have_one() -> None:
    async with a_world() as world:
        await serving(world)
        (spec,) = (await world.stub.GetMetricSpec(a_ref())).metricSpecs
        assert (spec.metricName, spec.targetSizeFloat) == (METRIC, 1.0)
        world.load = a_load(waiting=3, waiting_tokens=1500, under_way=3)
        assert await world.groups() == pytest.approx(1.5)
        assert await world.active()
        world.load = a_load(idle_seconds=601.0)
        assert await world.groups() == 0
        assert not await world.active()
        assert (await world.stub.IsActive(a_ref(idleSeconds="700"))).result


async def test_a_call_that_waits_is_pushed_at_once() -> None:
    async with a_world(replicas=0) as world:
        stream = world.stub.StreamIsActive(a_ref())
        assert not (await stream.read()).result
        world.held = 1
        assert world.scaler is not None
        async with asyncio.timeout(4):
            world.scaler.changed(KEY)
            assert (await stream.read()).result
        assert await world.groups() == 1
        # Who starts must not be put to sleep again.
        assert world.kube.model is not None
        world.kube.model["spec"]["replicas"], world.held = 1, 0
        assert await world.active()


@pytest.mark.parametrize(
    ("metadata", "spec", "code", "word"),
    [
        ({"model": ""}, {}, grpc.StatusCode.INVALID_ARGUMENT, "model is missing"),
        ({"waitingTokensPerRank": "many"}, {}, grpc.StatusCode.INVALID_ARGUMENT, "waitingTokensPerRank: 'many'"),
        ({"idleSeconds": "-1"}, {}, grpc.StatusCode.INVALID_ARGUMENT, "idleSeconds: '-1'"),
        ({}, {"autoscaling": {"maxReplicas": 2}}, grpc.StatusCode.FAILED_PRECONDITION, "spec.autoscaling"),
        ({}, None, grpc.StatusCode.NOT_FOUND, "there is no OpenModel mixtral"),
    ],
)
async def test_what_is_wrong_is_named(
    metadata: dict[str, str], spec: dict[str, Any] | None, code: grpc.StatusCode, word: str
) -> None:
    async with a_world(**(spec or {})) as world:
        if spec is None:
            world.kube.model = None
        for call in (world.stub.IsActive, lambda ref: world.stub.StreamIsActive(ref).read()):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call(a_ref(**metadata))
            assert raised.value.code() is code
            assert word in (raised.value.details() or "")
