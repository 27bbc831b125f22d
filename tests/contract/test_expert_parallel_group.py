"""A runtime whose ranks share the experts, as its callers see it: the same answers, and the same ends."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest

from checkpoints import write_tiny_llama, write_tiny_mixtral
from contract.infer_requests import (
    EVERLASTING,
    LONG,
    PROMPT,
    Requests,
    answers,
    request,
    streamed,
    text_of,
    until_answered,
)
from contract.runtime_server import RuntimeServer, long_mixtral, process_state, until
from openmodel_protos import grpc_service_pb2 as pb
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc
from openmodel_runtime.errors import EXIT_START_FAILED

Stub = pb_grpc.GRPCInferenceServiceStub
Write = Callable[[Path], Path]
SIZES = (1, 3)
MIXED = [
    request(PROMPT),
    request("In the year 2024"),
    request(f"{PROMPT} " * 20),
    request(PROMPT, {"temperature": 0.9, "seed": 4, "max_tokens": 20, "ignore_eos": True}),
    request(PROMPT, {"temperature": 0, "max_tokens": 60, "structured_outputs": {"regex": "[a-f]{12}"}}),
    request(PROMPT, {"temperature": 1.0, "seed": 2, "max_tokens": 9, "n": 4, "ignore_eos": True}),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return long_mixtral(tmp_path_factory.mktemp("mixtral"))


@pytest.fixture(scope="module")
def servers(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, RuntimeServer]]:
    """A runtime of each size."""
    made: dict[int, RuntimeServer] = {}
    try:
        for size in SIZES:
            flags = [f"--expert-parallel-size={size}"]
            made[size] = RuntimeServer(checkpoint, tmp_path_factory.mktemp("server"), flags)
        for server in made.values():
            server.wait_until_ready()
        yield made
    finally:
        for server in made.values():
            server.close()


@pytest.fixture(scope="module")
def stubs(servers: dict[int, RuntimeServer]) -> Iterator[dict[int, Stub]]:
    with servers[1].stub() as one, servers[3].stub() as three:
        yield {1: one, 3: three}


def test_answers_do_not_depend_on_how_many_ranks_share_the_experts(stubs: dict[int, Stub]) -> None:
    expected = [stubs[1].ModelInfer(message).raw_output_contents for message in MIXED]
    assert [stubs[3].ModelInfer(message).raw_output_contents for message in MIXED] == expected
    calls = [stubs[3].ModelInfer.future(message) for message in MIXED * 4]
    assert [call.result().raw_output_contents for call in calls] == expected * 4


def test_every_rank_gets_requests(servers: dict[int, RuntimeServer], stubs: dict[int, Stub]) -> None:
    assert_all_compute(servers[3], stubs[3])


def assert_all_compute(server: RuntimeServer, stub: Stub) -> None:
    """Each rank has a request of its own, and steps: what it has used of the processor grows."""
    calls = [stub.ModelInfer.future(request(sampling=EVERLASTING)) for _ in range(6)]
    server.wait_until_running(6)
    for pid in server.ranks():
        used = _ticks(pid)
        until(lambda pid=pid, used=used: _ticks(pid) > used, "the rank computes")  # type: ignore[misc]
    for call in calls:
        call.cancel()
    server.wait_until_idle()


def test_a_group_at_rest_computes_nothing_and_wakes_for_one_request(
    servers: dict[int, RuntimeServer], stubs: dict[int, Stub]
) -> None:
    expected = text_of(stubs[1].ModelInfer(request()))
    servers[3].wait_until_idle()
    for _ in range(5):
        assert text_of(stubs[3].ModelInfer(request())) == expected
    servers[3].wait_until_idle()
    until(lambda: all(process_state(pid) == "S" for pid in servers[3].ranks()), "all ranks sleep")


def test_a_grammar_that_can_not_be_compiled_leaves_the_group_at_rest(
    servers: dict[int, RuntimeServer], stubs: dict[int, Stub]
) -> None:
    for grammar in ("(a", "[a-z"):
        with pytest.raises(grpc.RpcError):
            stubs[3].ModelInfer(request(PROMPT, {"structured_outputs": {"regex": grammar}}))
    servers[3].wait_until_idle()
    assert text_of(stubs[3].ModelInfer(request())) == text_of(stubs[1].ModelInfer(request()))


def test_a_grammar_that_explodes_under_way_ends_its_own_request_alone(
    servers: dict[int, RuntimeServer], stubs: dict[int, Stub]
) -> None:
    expected = text_of(stubs[1].ModelInfer(request(sampling=LONG)))
    ambiguous = 'start: e\ne: "a" | "b" | "ab" | e e | e e e | e e e e'
    sampling = {"structured_outputs": {"grammar": ambiguous}, "min_tokens": 250, "max_tokens": 300, "temperature": 0}
    # On every rank: requests go to them in turn.
    others = [stubs[3].ModelInfer.future(request(sampling=LONG)) for _ in range(3)]
    failing = [stubs[3].ModelInfer.future(request(sampling=sampling)) for _ in range(3)]
    assert {call.code() for call in failing} == {grpc.StatusCode.INVALID_ARGUMENT}
    assert all("structured_outputs" in str(call.details()) for call in failing)
    assert {text_of(call.result()) for call in others} == {expected}
    servers[3].wait_until_idle()
    assert text_of(stubs[3].ModelInfer(request(sampling=LONG))) == expected


def test_the_model_is_described_as_a_whole(stubs: dict[int, Stub]) -> None:
    one, three = (stubs[size].ModelConfig(pb.ModelConfigRequest(name="tiny")).config.parameters for size in SIZES)
    for name in ("parameters", "active_parameters", "max_model_len", "architecture"):
        assert three[name] == one[name]
    # All but the experts are on every rank.
    assert int(three["weight_bytes"].string_value) > int(one["weight_bytes"].string_value)


@pytest.mark.parametrize("lost", [(0,), (2,), (0, 1)], ids=["first", "last", "two"])
def test_when_ranks_die_the_others_go_on_and_new_ones_come(
    servers: dict[int, RuntimeServer], stubs: dict[int, Stub], lost: tuple[int, ...]
) -> None:
    """Streams of those who are left lose no token and have the same ones; the experts of the dead are read anew."""
    expected = text_of(stubs[1].ModelInfer(request(sampling=LONG)))
    before = servers[3].ranks()
    streams = [stubs[3].ModelStreamInfer(iter(Requests(streamed(sampling=LONG, id="s")))) for _ in range(6)]
    first = [next(stream) for stream in streams]
    for rank in lost:
        os.kill(before[rank], signal.SIGKILL)
    ends = [answers([begun, *until_answered(stream, "s")])["s"] for begun, stream in zip(first, streams, strict=True)]
    for stream in streams:
        stream.cancel()
    gone = [end for end in ends if end.error]
    assert len(gone) == 2 * len(lost)
    assert all("send the request again" in end.error for end in gone)
    assert [end.text for end in ends if not end.error] == [expected] * (6 - len(gone))
    assert text_of(stubs[3].ModelInfer(request(sampling=LONG))) == expected
    until(lambda: len(servers[3].ranks()) == 3, "there are three ranks again")
    assert len(set(before) - set(servers[3].ranks())) == len(lost)
    # The new ones come to the group once they have loaded; before and after that answers are the same.
    whole = f"3 ranks share the model, here {servers[3].ranks()}"
    until(lambda: whole in servers[3].log.read_text(), "the new ones are in the group")
    for _ in range(3):
        calls = [stubs[3].ModelInfer.future(request(sampling=LONG)) for _ in range(4)]
        assert [text_of(call.result()) for call in calls] == [expected] * 4
    assert_all_compute(servers[3], stubs[3])


def test_when_all_ranks_die_the_group_comes_back(servers: dict[int, RuntimeServer], stubs: dict[int, Stub]) -> None:
    expected = text_of(stubs[1].ModelInfer(request()))
    before = servers[3].ranks()
    stream = stubs[3].ModelStreamInfer(iter(Requests(streamed(sampling=EVERLASTING, id="s"))))
    next(stream)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert "send the request again" in until_answered(stream, "s")[-1].error_message
    stream.cancel()
    servers[3].wait_until_ready()
    until(lambda: not set(before) & set(servers[3].ranks()) and len(servers[3].ranks()) == 3, "all are new")
    until(lambda: stubs[3].ServerReady(pb.ServerReadyRequest()).ready, "the group is ready")
    assert text_of(stubs[3].ModelInfer(request())) == expected


@pytest.mark.parametrize(
    ("write", "size", "words"),
    [
        (write_tiny_llama, 2, "has no experts to share"),
        (partial(write_tiny_mixtral, experts=2), 3, "2 experts can be shared by 1 to 2 ranks"),
    ],
)
def test_what_can_not_be_shared_is_refused(
    tmp_path: Path, write: Callable[[Path], Path], size: int, words: str
) -> None:
    server = RuntimeServer(write(tmp_path / "model"), tmp_path, [f"--expert-parallel-size={size}"])
    try:
        assert server.wait() == EXIT_START_FAILED, server.log.read_text()
        told = json.loads(server.termination_message.read_text())
        assert told["reason"] == "InvalidSpec"
        assert words in told["message"]
    finally:
        server.close()


def _ticks(pid: int) -> int:
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
