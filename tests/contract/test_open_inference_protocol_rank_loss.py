"""The rank is killed: what was under way ends, and the front gets another one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from contract.infer_requests import LONG, MODEL, Answer, Requests, answers, request, streamed, text_of, until_answered
from contract.runtime_server import NOT_SERVING, SERVING, RuntimeServer
from openmodel_protos import grpc_service_pb2 as pb
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc
from openmodel_runtime.front.health import LIVENESS

Stub = pb_grpc.GRPCInferenceServiceStub


@dataclass(frozen=True)
class Loss:
    """What was seen around the death of a rank, and of a drain whose time ran out."""

    ranks: tuple[int, int]
    front_lives: bool
    statuses: tuple[int, ...]
    """Of a watcher, from before to after."""
    unary: grpc.RpcError
    streamed: Answer
    meanwhile: grpc.RpcError
    """A request while there is no rank."""
    live: bool
    liveness: int
    ready: bool
    model_ready: bool
    index: str
    running: float
    deaths: float
    same_stream: Answer
    """A request on the call that saw the death, afterwards."""
    before: str
    after: str
    exit_code: int
    undrained: grpc.RpcError
    rank_left: bool


def refusal(call: grpc.Future[pb.ModelInferResponse]) -> grpc.RpcError:
    error = call.exception()
    assert isinstance(error, grpc.RpcError)
    return error


@pytest.fixture(scope="module")
def loss(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loss]:
    server = RuntimeServer(tiny_checkpoint, tmp_path_factory.mktemp("server"), ["--drain-seconds=0.1"])
    try:
        with server.wait_until_ready().stub() as stub, grpc.insecure_channel(server.health_address) as channel:
            seen = lose_rank(server, stub, health_pb2_grpc.HealthStub(channel))
            yield Loss(**seen, **drain_without_a_rank_that_moves(server, stub))
    finally:
        server.close()


def drain_without_a_rank_that_moves(server: RuntimeServer, stub: Stub) -> dict[str, Any]:
    with server.frozen_rank() as rank:
        unary = stub.ModelInfer.future(request())
        stub.ServerLive(pb.ServerLiveRequest())
        return {
            "exit_code": server.end(),
            "undrained": refusal(unary),
            "rank_left": Path(f"/proc/{rank}").exists(),
        }


def lose_rank(server: RuntimeServer, stub: Stub, health: health_pb2_grpc.HealthStub) -> dict[str, Any]:
    before = text_of(stub.ModelInfer(request()))
    watch = health.Watch(health_pb2.HealthCheckRequest(service=MODEL))
    leaving = health.Watch(health_pb2.HealthCheckRequest(service=MODEL))
    statuses = [next(watch).status, next(leaving).status]
    leaving.cancel()
    requests = Requests(streamed(sampling=LONG, id="lost"))
    call = stub.ModelStreamInfer(iter(requests))
    with server.frozen_rank() as first:
        unary = stub.ModelInfer.future(request(sampling=LONG))
        stub.ServerLive(pb.ServerLiveRequest())
        os.kill(first, signal.SIGKILL)
        lost = until_answered(call, "lost")
        died = refusal(unary)
    statuses.append(next(watch).status)
    seen = {
        "meanwhile": refusal(stub.ModelInfer.future(request())),
        "live": stub.ServerLive(pb.ServerLiveRequest()).live,
        "liveness": health.Check(health_pb2.HealthCheckRequest(service=LIVENESS)).status,
        "ready": stub.ServerReady(pb.ServerReadyRequest()).ready,
        "model_ready": stub.ModelReady(pb.ModelReadyRequest(name=MODEL)).ready,
        "index": stub.RepositoryIndex(pb.RepositoryIndexRequest()).models[0].state,
        "running": server.metric("openmodel_runtime_requests_running"),
    }
    statuses.append(next(watch).status)
    watch.cancel()
    requests.send(streamed(id="again"))
    again = until_answered(call, "again")
    requests.done()
    return seen | {
        "ranks": (first, server.rank()),
        "statuses": tuple(statuses),
        "unary": died,
        "streamed": answers(lost)["lost"],
        "same_stream": answers(again)["again"],
        "before": before,
        "after": text_of(stub.ModelInfer(request())),
        "deaths": server.metric("openmodel_runtime_rank_deaths_total"),
        "front_lives": server.process.poll() is None,
    }


def test_requests_under_way_end_unavailable(loss: Loss) -> None:
    assert loss.unary.code() == grpc.StatusCode.UNAVAILABLE
    assert "send the request again" in (loss.unary.details() or "")
    assert "send the request again" in loss.streamed.error


def test_requests_meanwhile_are_unavailable(loss: Loss) -> None:
    assert loss.meanwhile.code() == grpc.StatusCode.UNAVAILABLE


def test_the_front_stays_live_and_says_that_it_is_not_ready(loss: Loss) -> None:
    assert (loss.live, loss.liveness) == (True, SERVING)
    assert (loss.ready, loss.model_ready, loss.index) == (False, False, "UNAVAILABLE")


def test_a_watcher_sees_the_rank_go_and_come_back_also_when_another_watcher_left(loss: Loss) -> None:
    assert loss.statuses == (SERVING, SERVING, NOT_SERVING, SERVING)


def test_nothing_runs_in_a_dead_rank(loss: Loss) -> None:
    assert (loss.running, loss.deaths) == (0, 1)


def test_another_rank_serves_in_the_same_front(loss: Loss) -> None:
    assert loss.ranks[0] != loss.ranks[1]
    assert (loss.front_lives, loss.after) == (True, loss.before)


def test_the_call_that_saw_the_death_goes_on(loss: Loss) -> None:
    assert (loss.same_stream.error, loss.same_stream.text) == ("", loss.before)


def test_a_drain_ends_when_its_time_is_over(loss: Loss) -> None:
    assert loss.undrained.code() == grpc.StatusCode.UNAVAILABLE
    assert (loss.exit_code, loss.rank_left) == (0, False)
