"""SIGTERM: what is under way finishes, nothing new is taken, nothing is left."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from contract.infer_requests import LONG, Answer, Requests, answers, request, streamed, text_of, until_answered
from contract.runtime_server import LIMIT_SECONDS, NOT_SERVING, SERVING, RuntimeServer


@dataclass(frozen=True)
class Drained:
    """What was seen of a runtime that was asked to end while its rank stood still."""

    exit_code: int
    rank_left: bool
    statuses: tuple[int, int]
    unary: str
    answers: dict[str, Answer]
    """Of the call with a request under way."""
    busy_call: grpc.StatusCode
    idle_call: grpc.RpcError
    on_a_new_connection: grpc.RpcError
    expected: str


@pytest.fixture(scope="module")
def drained(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drained]:
    # Far more time to drain than this may take: whoever waits for it to run out is seen.
    flags = [f"--drain-seconds={10 * LIMIT_SECONDS}"]
    server = RuntimeServer(tiny_checkpoint, tmp_path_factory.mktemp("server"), flags)
    try:
        yield drain(server.wait_until_ready())
    finally:
        server.close()


def drain(server: RuntimeServer) -> Drained:
    rank = server.rank()
    with server.stub() as stub, grpc.insecure_channel(server.address) as channel:
        expected = text_of(stub.ModelInfer(request(sampling=LONG)))
        idle = stub.ModelStreamInfer(iter(Requests(streamed(id="0"))))
        until_answered(idle, "0")
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        first = next(watch).status
        requests = Requests(streamed(sampling=LONG, id="1"))
        busy = stub.ModelStreamInfer(iter(requests))
        with server.frozen_rank():
            unary = stub.ModelInfer.future(request(sampling=LONG))
            requests.send(streamed(model="nobody", id="2"))
            read = until_answered(busy, "2")
            server.process.send_signal(signal.SIGTERM)
            statuses = (first, next(watch).status)
            requests.send(streamed(id="3"))
            read += until_answered(busy, "3")
            with server.stub() as another, pytest.raises(grpc.RpcError) as refused:
                another.ModelInfer(request(), timeout=LIMIT_SECONDS)
            with pytest.raises(grpc.RpcError) as ended:
                list(idle)
        with pytest.raises(grpc.RpcError) as busy_ended:
            read.extend(busy)
        return Drained(
            exit_code=server.wait(),
            rank_left=Path(f"/proc/{rank}").exists(),
            statuses=statuses,
            unary=text_of(unary.result()),
            answers=answers(read),
            busy_call=busy_ended.value.code(),
            idle_call=ended.value,
            on_a_new_connection=refused.value,
            expected=expected,
        )


def test_requests_under_way_finish(drained: Drained) -> None:
    assert drained.unary == drained.expected
    assert (drained.answers["1"].text, drained.answers["1"].finish_reason) == (drained.expected, "length")


def test_new_requests_are_unavailable(drained: Drained) -> None:
    assert drained.on_a_new_connection.code() == grpc.StatusCode.UNAVAILABLE
    assert "shutting down" in drained.answers["3"].error


def test_a_call_ends_unavailable_once_nothing_is_under_way(drained: Drained) -> None:
    assert (drained.idle_call.code(), drained.busy_call) == (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE)
    assert "shutting down" in (drained.idle_call.details() or "")


def test_watchers_are_told_and_hold_up_nobody(drained: Drained) -> None:
    assert drained.statuses == (SERVING, NOT_SERVING)


def test_the_runtime_ends_well_and_leaves_no_process(drained: Drained) -> None:
    assert (drained.exit_code, drained.rank_left) == (0, False)
