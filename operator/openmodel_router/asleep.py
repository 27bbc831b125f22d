"""What is answered for a model that no pod serves, without waking it.

Whoever asks whether it is there must not wake it, and be it every second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2

from openmodel_protos import grpc_service_pb2 as pb

_SERVICE = f"/{pb.DESCRIPTOR.services_by_name['GRPCInferenceService'].full_name}"
_HEALTH = health_pb2.HealthCheckResponse


def _server_live(request: bytes, name: str, answers: bool) -> Message | None:
    return pb.ServerLiveResponse(live=True)


def _server_ready(request: bytes, name: str, answers: bool) -> Message | None:
    return pb.ServerReadyResponse(ready=answers)


def _model_ready(request: bytes, name: str, answers: bool) -> Message | None:
    asked: str = pb.ModelReadyRequest.FromString(request).name
    return pb.ModelReadyResponse(ready=answers and asked == name)


def _check(request: bytes, name: str, answers: bool) -> Message | None:
    asked = health_pb2.HealthCheckRequest.FromString(request).service
    if asked not in ("", _SERVICE[1:], name):
        return None
    told: Message = _HEALTH(status=_HEALTH.SERVING if answers else _HEALTH.NOT_SERVING)
    return told


_ANSWERS: Mapping[str, Callable[[bytes, str, bool], Message | None]] = {
    f"{_SERVICE}/ServerLive": _server_live,
    f"{_SERVICE}/ServerReady": _server_ready,
    f"{_SERVICE}/ModelReady": _model_ready,
    "/grpc.health.v1.Health/Check": _check,
}


WATCH = "/grpc.health.v1.Health/Watch"
"""Ends with its caller only, and would keep a model awake: clients without it take a server for healthy."""


def is_answered(method: str) -> bool:
    """Whether a method may be answered while the model sleeps."""
    return method in _ANSWERS


def answer(method: str, request: bytes, name: str, answers: bool) -> bytes | None:
    """The answer of a model that sleeps, and would answer calls when woken, or would not; None: it is about another."""
    try:
        message = _ANSWERS[method](request, name, answers)
    except DecodeError:
        return None
    return None if message is None else message.SerializeToString()
