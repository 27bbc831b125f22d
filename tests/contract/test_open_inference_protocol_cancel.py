"""Who goes away gives back what his request held of the cache, be it in its prompt or in its completion."""

from __future__ import annotations

from contract.infer_requests import EVERLASTING, PROMPT, streamed
from contract.runtime_server import RuntimeServer, until
from openmodel_protos import grpc_service_pb2 as pb
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc

Stub = pb_grpc.GRPCInferenceServiceStub
FREE, ALL = "openmodel_runtime_kv_cache_free_tokens", "openmodel_runtime_kv_cache_tokens"
# Some hundred steps of prompt.
LONG_PROMPT = PROMPT * 4_000


def test_in_decode(server: RuntimeServer, stub: Stub) -> None:
    call = stub.ModelStreamInfer(iter([streamed(sampling=EVERLASTING)]))
    next(call)
    until(lambda: server.metric(FREE) < server.metric(ALL), "the request holds some of the cache")
    call.cancel()
    server.wait_until_idle()
    assert server.metric(FREE) == server.metric(ALL)


def test_in_prefill(server: RuntimeServer, stub: Stub) -> None:
    call = stub.ModelStreamInfer(iter([streamed(LONG_PROMPT, sampling=EVERLASTING)]))
    until(lambda: server.metric(FREE) < server.metric(ALL), "the prompt holds some of the cache")
    call.cancel()
    server.wait_until_idle()
    assert server.metric(FREE) == server.metric(ALL)
    (statistics,) = stub.ModelStatistics(pb.ModelStatisticsRequest()).model_stats
    assert statistics.response_stats["0"].cancel.count > 0
