"""The Load service: what a pod says that its ranks have to do, as whoever scales the model asks it."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from contract.infer_requests import EVERLASTING, Requests, request, streamed
from contract.runtime_server import RuntimeServer, until
from openmodel_protos import grpc_service_pb2 as pb
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc
from openmodel_protos import load_pb2, load_pb2_grpc

Stub = pb_grpc.GRPCInferenceServiceStub


@pytest.fixture
def load(server: RuntimeServer) -> Iterator[load_pb2_grpc.LoadStub]:
    with server.channel() as channel:
        yield load_pb2_grpc.LoadStub(channel)


def told(load: load_pb2_grpc.LoadStub) -> load_pb2.RequestLoad:
    return load.Report(load_pb2.LoadRequest()).requests


def test_an_idle_pod_says_for_how_long_and_how_it_was(
    server: RuntimeServer, stub: Stub, load: load_pb2_grpc.LoadStub
) -> None:
    stub.ModelInfer(request())
    server.wait_until_idle()
    first = told(load)
    assert (first.ranks, first.running, first.waiting, first.waiting_tokens, first.under_way) == (1, 0, 0, 0, 0)
    assert first.kv_cache_used == 0
    assert first.first_token_seconds > 0
    until(lambda: told(load).idle_seconds > first.idle_seconds > 0, "the pod is idle for longer")
    # Whoever asks for what is not there keeps nothing awake.
    with pytest.raises(grpc.RpcError):
        stub.ModelInfer(request(model="nobody"))
    assert told(load).idle_seconds > first.idle_seconds


def test_a_busy_pod_says_what_runs_what_waits_and_what_of_its_cache_is_held(
    server: RuntimeServer, stub: Stub, load: load_pb2_grpc.LoadStub
) -> None:
    requests: Requests[pb.ModelInferRequest] = Requests()
    call = stub.ModelStreamInfer(iter(requests))
    for number in range(20):
        requests.send(streamed(sampling=EVERLASTING, id=str(number)))
    until(lambda: told(load).running > 0 and told(load).running + told(load).waiting == 20, "all are known")
    now = told(load)
    assert now.under_way == 20
    assert now.idle_seconds == 0
    assert now.kv_cache_used > 0
    assert bool(now.waiting) == bool(now.waiting_tokens) == bool(now.most_waiting_tokens)
    call.cancel()
    server.wait_until_idle()
    until(lambda: told(load).under_way == 0, "none is under way")
