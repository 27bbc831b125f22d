"""A group whose ranks are in several pods, as its callers see it."""

from __future__ import annotations

import itertools
import operator
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from checkpoints import LAYERS
from contract.infer_requests import (
    EVERLASTING,
    LONG,
    MIXED,
    Answer,
    Requests,
    answers,
    request,
    streamed,
    text_of,
    until_answered,
)
from contract.pods import Pods
from contract.runtime_server import RuntimeServer, long_mixtral, until


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return long_mixtral(tmp_path_factory.mktemp("mixtral"))


@pytest.fixture(scope="module")
def alone(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeServer]:
    """One rank that has all experts."""
    server = RuntimeServer(checkpoint, tmp_path_factory.mktemp("alone"))
    try:
        yield server.wait_until_ready()
    finally:
        server.close()


@pytest.fixture(scope="module")
def expected(alone: RuntimeServer) -> str:
    """What a long request is answered with."""
    with alone.stub() as stub:
        return text_of(stub.ModelInfer(request(sampling=LONG)))


@pytest.fixture(scope="module")
def shared(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    """A group of two pods for tests that leave it as whole as they found it."""
    with Pods(checkpoint, tmp_path_factory.mktemp("shared"), 2).running(0, 1) as made:
        yield made


@pytest.fixture
def pods(request: pytest.FixtureRequest, checkpoint: Path, tmp_path: Path) -> Iterator[Pods]:
    """A group of two pods, or of as many, with such flags, as the test says."""
    size, *flags = getattr(request, "param", (2,))
    with Pods(checkpoint, tmp_path, size, flags).running(*range(size)) as made:
        yield made


class Streams:
    """Streams that have begun, each with its pod; they go on until they are asked how they end."""

    def __init__(self, pods: Pods, owners: Sequence[int], sampling: Mapping[str, Any] = LONG) -> None:
        self._pods = pods
        self._streams: list[tuple[int, Any, list[Any]]] = []
        self.add(owners, sampling)

    def add(self, owners: Sequence[int], sampling: Mapping[str, Any] = LONG) -> None:
        """Further ones; returns once each has sent something."""
        added: list[tuple[int, Any, list[Any]]] = [
            (pod, self._pods.stub(pod).ModelStreamInfer(iter(Requests(streamed(sampling=sampling, id="s")))), [])
            for pod in owners
        ]
        for _, stream, read in added:
            read.append(next(stream))
        self._streams += added

    def ends(self, *owners: int) -> list[tuple[int, Answer]]:
        """How those of some pods ended, of all without any: the pod, and what came."""
        ends = []
        for pod, stream, read in self._streams:
            if not owners or pod in owners:
                ends.append((pod, answers([*read, *until_answered(stream, "s")])["s"]))
                stream.cancel()
        return ends

    def cut(self) -> list[str]:
        """Ends those that would not end, after 2,000 messages; their texts."""
        texts = []
        for _, stream, read in self._streams:
            read += itertools.islice(stream, 2_000 - len(read))
            assert not any(message.error_message for message in read)
            texts.append("".join(text_of(message.infer_response) for message in read))
            stream.cancel()
        return texts


def assert_serves(pods: Pods, expected: str) -> None:
    """Every pod answers, all at once."""
    stubs = [pods.stub(pod) for pod in pods.pods]
    calls = [stub.ModelInfer.future(request(sampling=LONG)) for stub in stubs * 2]
    assert [text_of(call.result()) for call in calls] == [expected] * len(calls)


def until_members(pods: Pods, count: int) -> None:
    """All pods know of the same epoch, and it has so many."""

    def agreed() -> bool:
        ((_, ranks), *others) = {pods.epoch(pod) for pod in pods.pods}
        return ranks == count and not others

    until(agreed, f"{count} ranks step together")
    pods.wait_until_ready()


def test_answers_are_the_same_whoever_is_asked(shared: Pods, alone: RuntimeServer) -> None:
    with alone.stub() as stub:
        whole = [stub.ModelInfer(message).raw_output_contents for message in MIXED]
    for pod in (0, 1, 0):
        assert [shared.stub(pod).ModelInfer(message).raw_output_contents for message in MIXED] == whole
    both = [shared.stub(pod).ModelInfer.future(message) for pod in (0, 1) for message in MIXED * 2]
    assert [call.result().raw_output_contents for call in both] == whole * 4


def test_a_group_at_rest_computes_nothing_and_wakes_for_one_request(shared: Pods, expected: str) -> None:
    for pod in (1, 0, 1):
        shared.wait_until_resting()
        assert text_of(shared.stub(pod).ModelInfer(request(sampling=LONG))) == expected


@pytest.mark.parametrize("lost", [0, 1])
def test_when_a_rank_dies_those_of_other_pods_go_on(shared: Pods, expected: str, lost: int) -> None:
    streams = Streams(shared, [0, 0, 1, 1])
    os.kill(shared.pods[lost].rank(), signal.SIGKILL)
    for pod, end in streams.ends():
        assert ("send the request again" in end.error) if pod == lost else (end.text == expected)
    until_members(shared, 2)
    assert_serves(shared, expected)


@pytest.mark.parametrize("lost", [0, 1])
def test_when_a_pod_dies_the_others_go_on_and_it_comes_back(shared: Pods, expected: str, lost: int) -> None:
    other = 1 - lost
    streams = Streams(shared, [other, other])
    shared.kill(lost)
    assert [end.text for _, end in streams.ends()] == [expected] * 2
    assert text_of(shared.stub(other).ModelInfer(request(sampling=LONG))) == expected
    streams = Streams(shared, [other, other])
    shared.start(lost)
    shared.wait_until_ready()
    assert [end.text for _, end in streams.ends()] == [expected] * 2
    assert_serves(shared, expected)


def test_a_rank_that_hangs_is_ended_and_the_others_go_on(shared: Pods, expected: str) -> None:
    streams = Streams(shared, [0, 1])
    hanging = shared.pods[0].rank()
    os.kill(hanging, signal.SIGSTOP)
    (_, first), (_, second) = streams.ends()
    assert "send the request again" in first.error
    assert second.text == expected
    until(lambda: hanging not in shared.pods[0].ranks(), "it has ended")
    until_members(shared, 2)
    assert_serves(shared, expected)


@pytest.mark.parametrize("pods", [(3,)], indirect=True)
def test_without_a_pod_that_stands_still_the_greater_part_goes_on(pods: Pods, expected: str) -> None:
    """Its own requests wait with it, and go on when it comes back."""
    streams = Streams(pods, [0, 1, 2])
    with pods.standing_still(0):
        assert [end.text for _, end in streams.ends(1, 2)] == [expected] * 2
        assert text_of(pods.stub(2).ModelInfer(request(sampling=LONG))) == expected
    ((_, last),) = streams.ends(0)
    assert last.text == expected
    until_members(pods, 3)
    assert_serves(pods, expected)


@pytest.mark.parametrize("pods", [(3,)], indirect=True)
def test_the_smaller_part_answers_nobody(pods: Pods, expected: str) -> None:
    streams = Streams(pods, [1], EVERLASTING)
    with pods.standing_still(0, 2):
        ((_, end),) = streams.ends()
        assert "too few of its group" in end.error
        with pytest.raises(grpc.RpcError) as refused:
            pods.stub(1).ModelInfer(request())
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    until_members(pods, 3)
    assert_serves(pods, expected)


def test_a_group_grows_and_shrinks_while_it_serves(pods: Pods, alone: RuntimeServer, expected: str) -> None:
    endless = Streams(pods, [0, 1], EVERLASTING)
    pods.start(2, 3, size=4)
    pods.wait_until_ready()
    until_members(pods, 4)
    streams = Streams(pods, [0, 1, 2, 3])
    assert pods.end(3) == 0
    until_members(pods, 3)
    streams.add([0, 1, 2])
    assert pods.end(2) == 0
    until_members(pods, 2)
    streams.add([0, 1])
    assert [end.error or end.text for _, end in streams.ends()] == [expected] * 9
    assert_serves(pods, expected)
    texts = endless.cut()
    with alone.stub() as stub:
        whole = text_of(stub.ModelInfer(request(sampling={**EVERLASTING, "max_tokens": 4_000})))
    pods.wait_until_resting()
    assert [text for text in texts if any(map(operator.ne, text, whole))] == []


@pytest.mark.parametrize("pods", [(2, "--failover-ranks=0")], indirect=True)
def test_those_who_have_no_memory_for_lost_experts_wait_with_their_requests(pods: Pods, expected: str) -> None:
    streams = Streams(pods, [0, 0])
    assert (pods.report(0).smallest_ranks, pods.report(0).survives_pod_loss) == (2, 0)
    pods.kill(1)
    until(lambda: pods.report(0).missing_experts == pods.report(0).experts // 2, "experts are missing")
    assert pods.pods[0].metric("openmodel_runtime_group_missing_experts") == pods.report(0).missing_experts
    with pytest.raises(grpc.RpcError) as refused:
        pods.stub(0).ModelInfer(request())
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    pods.start(1)
    assert [end.text for _, end in streams.ends()] == [expected] * 2
    until_members(pods, 2)
    assert_serves(pods, expected)


@pytest.mark.parametrize("pods", [(2, "--rebalance-seconds=1")], indirect=True)
def test_experts_move_for_an_even_load_and_nobody_notices(pods: Pods, alone: RuntimeServer) -> None:
    assert (pods.report(1).survives_pod_loss, pods.report(1).imbalance) == (1, 0)
    endless = Streams(pods, [0, 1, 1], EVERLASTING)
    until(lambda: pods.report(1).last_rebalance > 0, "experts were moved")
    texts = endless.cut()
    with alone.stub() as stub:
        whole = text_of(stub.ModelInfer(request(sampling={**EVERLASTING, "max_tokens": 4_000})))
    assert [text for text in texts if any(map(operator.ne, text, whole))] == []
    assert 1 <= pods.report(0).imbalance < 2
    layers = [line for line in pods.pods[0].metrics().splitlines() if line.startswith("openmodel_runtime_experts_")]
    assert len(layers) == 2 * LAYERS
    assert pods.pods[0].metric("openmodel_runtime_group_gap_seconds_count") >= 1


def test_when_all_end_none_waits_for_another(pods: Pods, expected: str) -> None:
    streams = Streams(pods, [0, 1])
    for server in pods.pods.values():
        server.process.send_signal(signal.SIGTERM)
    assert [end.text for _, end in streams.ends()] == [expected] * 2
    assert [server.wait() for server in pods.pods.values()] == [0, 0]
