"""KEDA's external scaler: what a model calls for, told to whoever scales it.

Served by every operator, whether it leads or not: it writes nothing. One metric says all, in groups: the target is one
a group, so that an HPA with an average value comes to what our own autoscaler would.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, NoReturn

import grpc

from openmodel_operator.cluster import Cluster, ModelKey
from openmodel_operator.desired.identity import Identity
from openmodel_operator.observer import Observer
from openmodel_operator.scaling.decision import Demand, called_for, is_active
from openmodel_operator.scaling.pressure import pressure
from openmodel_operator.scaling.signals import Signals
from openmodel_operator.spec import AutoscalingSpec, SpecError, parse_autoscaling, parse_spec
from openmodel_protos import externalscaler_pb2 as pb
from openmodel_protos import externalscaler_pb2_grpc as pb_grpc

METRIC = "openmodel-groups"
_MOST = 1000
_LOOK_SECONDS = 5.0
_TARGETS = {"waitingTokensPerRank": 1.0, "kvCacheUtilization": 0.01, "timeToFirstTokenSeconds": 0.001}
"""And the least that each may be, as in spec.autoscaling."""
# Each costs a question to the model's pods.
_MOST_CALLS = 1000
Context = grpc.aio.ServicerContext[Any, Any]


class ExternalScaler(pb_grpc.ExternalScalerServicer):
    """externalscaler.ExternalScaler."""

    def __init__(self, cluster: Cluster, observer: Observer, signals: Signals) -> None:
        self._cluster = cluster
        self._observer = observer
        self._signals = signals
        self._changes: dict[ModelKey, set[asyncio.Event]] = {}

    def changed(self, key: ModelKey) -> None:
        """Calls to a model begin or cease to wait."""
        for event in self._changes.get(key, ()):
            event.set()

    async def IsActive(self, request: pb.ScaledObjectRef, context: Context) -> pb.IsActiveResponse:
        """Whether a model at zero is called, or one that runs has been of late."""
        spec, demand = await self._seen(request, context)
        return pb.IsActiveResponse(result=is_active(spec, demand))

    async def StreamIsActive(self, request: pb.ScaledObjectRef, context: Context) -> AsyncIterator[pb.IsActiveResponse]:
        """The same at once and whenever it changes."""
        key = (request.namespace, request.scalerMetadata.get("model", ""))
        change = asyncio.Event()
        self._changes.setdefault(key, set()).add(change)
        told: bool | None = None
        try:
            while True:
                change.clear()
                spec, demand = await self._seen(request, context)
                active = is_active(spec, demand)
                if active != told:
                    told = active
                    yield pb.IsActiveResponse(result=active)
                with suppress(TimeoutError):
                    await asyncio.wait_for(change.wait(), _LOOK_SECONDS)
        finally:
            self._changes[key].discard(change)
            if not self._changes[key]:
                del self._changes[key]

    async def GetMetricSpec(self, request: pb.ScaledObjectRef, context: Context) -> pb.GetMetricSpecResponse:
        """The one metric: a group each."""
        await _targets(request, context)
        spec = pb.MetricSpec(metricName=METRIC, targetSize=1, targetSizeFloat=1.0)
        return pb.GetMetricSpecResponse(metricSpecs=[spec])

    async def GetMetrics(self, request: pb.GetMetricsRequest, context: Context) -> pb.GetMetricsResponse:
        """How many groups the load calls for, as a fraction."""
        spec, demand = await self._seen(request.scaledObjectRef, context)
        groups = float(called_for(spec, demand).replicas)
        if demand.load is not None and groups:
            # An HPA has a tolerance and windows of its own.
            pressed = demand.ready * pressure(spec, demand.load, demand.max_num_seqs).ratio
            # Pods that do not answer may be those that have most to do.
            groups = max(groups, pressed) if demand.load.silent else pressed
        value = pb.MetricValue(metricName=METRIC, metricValue=math.ceil(groups), metricValueFloat=groups)
        return pb.GetMetricsResponse(metricValues=[value])

    async def _seen(self, request: pb.ScaledObjectRef, context: Context) -> tuple[AutoscalingSpec, Demand]:
        targets = await _targets(request, context)
        key = (request.namespace, request.scalerMetadata["model"])
        model = self._cluster.model(*key)
        if model is None:
            await _refuse(context, grpc.StatusCode.NOT_FOUND, f"there is no OpenModel {key[1]} in namespace {key[0]}")
        if "autoscaling" in model["spec"]:
            told = "spec.autoscaling: the operator scales this OpenModel: leave it out, or delete the ScaledObject"
            await _refuse(context, grpc.StatusCode.FAILED_PRECONDITION, told)
        try:
            spec = parse_spec(model["spec"])
        except SpecError as error:
            await _refuse(context, grpc.StatusCode.FAILED_PRECONDITION, str(error))
        observed = await self._observer.seen(Identity(*key, model["metadata"]["uid"]))
        return targets, await self._signals.demand(key, spec.replicas, spec.engine.max_num_seqs, observed)


async def serve_scaler(scaler: ExternalScaler, port: int, credentials: grpc.ServerCredentials | None = None) -> None:
    """Serves until cancelled, in plaintext without credentials."""
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),), maximum_concurrent_rpcs=_MOST_CALLS)
    pb_grpc.add_ExternalScalerServicer_to_server(scaler, server)
    if credentials is None:
        server.add_insecure_port(f"[::]:{port}")
    else:
        server.add_secure_port(f"[::]:{port}", credentials)
    await server.start()
    try:
        await server.wait_for_termination()
    finally:
        await server.stop(None)


async def _targets(request: pb.ScaledObjectRef, context: Context) -> AutoscalingSpec:
    """The trigger's targets, named as in spec.autoscaling."""
    metadata = request.scalerMetadata
    if not metadata.get("model"):
        told = "trigger metadata: model is missing: the name of an OpenModel in the ScaledObject's namespace"
        await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, told)
    try:
        targets = {name: _number(name, metadata[name], least) for name, least in _TARGETS.items() if name in metadata}
        idle = {name: _number(name, metadata[name], 1.0) for name in ("idleSeconds",) if name in metadata}
    except ValueError as error:
        await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, f"trigger metadata: {error}")
    return parse_autoscaling({"minReplicas": 0, "maxReplicas": _MOST, "targets": targets, **idle})


def _number(name: str, text: str, least: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value < math.inf:
        raise ValueError(f"{name}: {text!r} is not a number from {least:g} on")
    return value


async def _refuse(context: Context, code: grpc.StatusCode, message: str) -> NoReturn:
    await context.abort(code, message)
    raise AssertionError("abort returns never")
