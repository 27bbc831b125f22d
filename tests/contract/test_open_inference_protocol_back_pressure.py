"""A server that has enough to do says so, and when to come back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from contract.infer_requests import GREEDY, Requests, request, streamed, text_of
from contract.runtime_server import LIMIT_SECONDS, RuntimeServer, until
from openmodel_protos import grpc_service_pb2 as pb
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc

Stub = pb_grpc.GRPCInferenceServiceStub
# gRFC A6: a client's own retries go by it.
PUSHBACK = "grpc-retry-pushback-ms"
# Completions, of which one request may have 64: the server takes 1,024.
MOST, OF_ONE = 1024, 64
SHORT = {**GREEDY, "max_tokens": 1}


def trailers(error: grpc.RpcError) -> dict[str, str | bytes]:
    return {item.key: item.value for item in error.trailing_metadata() or ()}


def pushback(error: grpc.RpcError) -> int:
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    milliseconds = int(trailers(error)[PUSHBACK])
    assert f"try again in {milliseconds / 1000:.1f} s" in (error.details() or "")
    return milliseconds


@contextmanager
def full(server: RuntimeServer, stub: Stub) -> Iterator[None]:
    """The server has all that it takes under way inside, and ends it afterwards."""
    requests: Requests[pb.ModelInferRequest] = Requests()
    call = stub.ModelStreamInfer(iter(requests))
    with server.frozen_rank():
        for number in range(MOST // OF_ONE):
            requests.send(streamed(sampling={**SHORT, "n": OF_ONE}, id=str(number)))
        requests.send(streamed(sampling=SHORT, id="over"))
        refused = next(call)
        assert refused.infer_response.id == "over"
        assert f"{MOST} completions" in refused.error_message
        assert "try again in " in refused.error_message
        yield
    requests.done()
    assert len({message.infer_response.id for message in call}) == MOST // OF_ONE


def test_a_full_server_tells_when_to_come_back(server: RuntimeServer, stub: Stub) -> None:
    with full(server, stub):
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(request(sampling=SHORT))
        assert 100 <= pushback(caught.value) <= 30_000
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.ModelStreamInfer(iter([streamed(sampling=SHORT)]), metadata=(("triton_grpc_error", "true"),)))
        assert 100 <= pushback(caught.value) <= 30_000
    assert text_of(stub.ModelInfer(request()))


def test_a_clients_own_retries_come_back_when_there_is_room(server: RuntimeServer, stub: Stub) -> None:
    policy = {
        "maxAttempts": 5,
        # Without the server's word it would be back at once, four times.
        "initialBackoff": "0.01s",
        "maxBackoff": "0.01s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["RESOURCE_EXHAUSTED"],
    }
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})
    with grpc.insecure_channel(server.address, [("grpc.service_config", config)]) as channel:
        with full(server, stub):
            failed = failures(stub)
            call = pb_grpc.GRPCInferenceServiceStub(channel).ModelInfer.future(
                request(sampling=SHORT), timeout=LIMIT_SECONDS
            )
            until(lambda: failures(stub) > failed, "the server has refused the call")
        assert text_of(call.result()) == text_of(stub.ModelInfer(request(sampling=SHORT)))


def failures(stub: Stub) -> int:
    (model,) = stub.ModelStatistics(pb.ModelStatisticsRequest()).model_stats
    return int(model.inference_stats.fail.count)


def test_no_other_error_tells_to_come_back(stub: Stub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request(sampling={"n": 0}))
    assert PUSHBACK not in trailers(caught.value)
