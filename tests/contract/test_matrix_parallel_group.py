"""Ranks that share each matrix of a dense model, as their callers see them: in one pod, and in two."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from contract.infer_requests import LONG, MIXED, Requests, answers, request, streamed, text_of, until_answered
from contract.pods import Pods, waits_of
from contract.runtime_server import RuntimeServer, long_llama, long_mixtral, until
from openmodel_protos import grpc_service_pb2 as pb


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return long_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def server(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeServer]:
    """Two ranks in a pod; tests leave both there."""
    made = RuntimeServer(checkpoint, tmp_path_factory.mktemp("server"), ["--tensor-parallel-size=2"])
    try:
        yield made.wait_until_ready()
    finally:
        print(made.log.read_text())
        made.close()


@pytest.fixture(scope="module")
def pods(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    """A rank in each of two pods; tests leave both there."""
    with Pods(checkpoint, tmp_path_factory.mktemp("pods"), 2, shared="tensor").running(0, 1) as made:
        yield made


def test_an_answer_is_the_same_in_any_company(server: RuntimeServer) -> None:
    with server.stub() as stub:
        alone = [stub.ModelInfer(message).raw_output_contents for message in MIXED]
        calls = [stub.ModelInfer.future(message) for message in MIXED * 4]
        assert [call.result().raw_output_contents for call in calls] == alone * 4


def test_ranks_at_rest_compute_nothing(server: RuntimeServer) -> None:
    with server.stub() as stub:
        first = text_of(stub.ModelInfer(request(sampling=LONG)))
        server.wait_until_idle()
        seen: list[list[int]] = []

        def asleep() -> bool:
            seen.append([waits_of(rank) for rank in server.ranks()])
            return len(seen) > 20 and seen[-20:] == [seen[-1]] * 20

        until(asleep, "both rest")
        assert text_of(stub.ModelInfer(request(sampling=LONG))) == first


def test_requests_go_on_when_a_rank_that_follows_is_lost(server: RuntimeServer) -> None:
    with server.stub() as stub:
        whole = text_of(stub.ModelInfer(request(sampling=LONG)))
        streams = [stub.ModelStreamInfer(iter(Requests(streamed(sampling=LONG, id="s")))) for _ in range(3)]
        begun = [[next(stream)] for stream in streams]
        # The second was started second.
        os.kill(max(server.ranks()), signal.SIGKILL)
        ends = [
            answers([*read, *until_answered(stream, "s")])["s"] for read, stream in zip(begun, streams, strict=True)
        ]
        assert [end.error or end.text for end in ends] == [whole] * 3


def test_requests_end_when_the_rank_that_leads_is_lost_and_the_group_forms_again(server: RuntimeServer) -> None:
    with server.stub() as stub:
        whole = text_of(stub.ModelInfer(request(sampling=LONG)))
        stream = stub.ModelStreamInfer(iter(Requests(streamed(sampling=LONG, id="s"))))
        read = [next(stream)]
        os.kill(min(server.ranks()), signal.SIGKILL)
        assert "send the request again" in answers([*read, *until_answered(stream, "s")])["s"].error
        server.wait_until_ready()
        assert text_of(stub.ModelInfer(request(sampling=LONG))) == whole


def test_two_pods_serve_through_the_first(pods: Pods) -> None:
    first, second = pods.stub(0), pods.stub(1)
    alone = [first.ModelInfer(message).raw_output_contents for message in MIXED]
    calls = [first.ModelInfer.future(message) for message in MIXED * 2]
    assert [call.result().raw_output_contents for call in calls] == alone * 2
    with pytest.raises(grpc.RpcError) as refused:
        second.ModelInfer(request())
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "another pod of its group" in str(refused.value.details())


def test_requests_wait_for_a_pod_that_is_lost(pods: Pods) -> None:
    stub = pods.stub(0)
    whole = text_of(stub.ModelInfer(request(sampling=LONG)))
    stream = stub.ModelStreamInfer(iter(Requests(streamed(sampling=LONG, id="s"))))
    read = [next(stream)]
    pods.kill(1)
    until(lambda: not stub.ServerReady(pb.ServerReadyRequest()).ready, "new requests are refused")
    pods.start(1)
    assert answers([*read, *until_answered(stream, "s")])["s"].text == whole
    pods.wait_until_ready()
    assert text_of(stub.ModelInfer(request(sampling=LONG))) == whole


def test_a_pod_that_is_to_end_does_so_though_the_others_can_not_do_without_it(pods: Pods) -> None:
    stub = pods.stub(0)
    whole = text_of(stub.ModelInfer(request(sampling=LONG)))
    stream = stub.ModelStreamInfer(iter(Requests(streamed(sampling=LONG, id="s"))))
    read = [next(stream)]
    assert pods.end(1) == 0
    pods.start(1)
    assert answers([*read, *until_answered(stream, "s")])["s"].text == whole
    pods.wait_until_ready()


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--tensor-parallel-size=2"], "parallelism.tensor 2: a MixtralForCausalLM has experts"),
        (["--tensor-parallel-size=2", "--expert-parallel-size=2"], "together are not supported"),
    ],
)
def test_what_can_not_be_shared_is_refused(tmp_path: Path, flags: list[str], reason: str) -> None:
    made = RuntimeServer(long_mixtral(tmp_path / "mixtral"), tmp_path, flags)
    try:
        assert made.wait() != 0
        assert reason in made.log.read_text()
    finally:
        made.close()
