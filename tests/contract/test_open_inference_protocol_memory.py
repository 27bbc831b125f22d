"""Ten thousand requests that no client would send leave the server as it was: answers, processes, memory."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from contract.infer_requests import request, streamed, text_of
from contract.malformed_requests import KINDS
from contract.runtime_server import LIMIT_SECONDS, RuntimeServer
from openmodel_protos import grpc_service_pb2 as pb

UNARY = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
WARM_UP, REQUESTS, AT_ONCE = 1_000, 10_000, 100
MIB = 1 << 20


@pytest.fixture(scope="module")
def own_server(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeServer]:
    """A runtime that no other test has asked for anything."""
    running = RuntimeServer(tiny_checkpoint, tmp_path_factory.mktemp("server"))
    try:
        yield running.wait_until_ready()
    finally:
        running.close()


def resident(pid: int) -> int:
    """Bytes of memory that a process has in use."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def send(channel: grpc.Channel, chance: random.Random, count: int) -> set[grpc.StatusCode]:
    """So many requests, of all kinds, some by themselves and some on streams; the statuses that came back."""
    unary: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(UNARY, request_serializer=bytes)
    stream: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(STREAM, request_serializer=bytes)
    statuses = set()
    for _ in range(count // AT_ONCE):
        kinds = chance.choices(list(KINDS), weights=[8, 2, 1], k=AT_ONCE)
        messages = [KINDS[kind](chance) for kind in kinds]
        if chance.random() < 0.3:
            # The first one that does not parse ends the call, whatever is under way on it.
            call = stream(iter(messages), timeout=LIMIT_SECONDS)
            try:
                for _ in call:
                    pass
            except grpc.RpcError:
                pass
            statuses.add(call.code())
        else:
            calls = [unary.future(data, timeout=LIMIT_SECONDS) for data in messages]
            statuses |= {each.code() for each in calls}
    return statuses


@pytest.mark.timeout(180)
def test_malformed_requests_leave_no_memory_behind(own_server: RuntimeServer) -> None:
    processes = {"front": own_server.process.pid, "rank": own_server.rank()}
    chance = random.Random(7)
    with own_server.stub() as stub, grpc.insecure_channel(own_server.address) as channel:
        expected = text_of(stub.ModelInfer(request()))
        send(channel, chance, WARM_UP)
        own_server.wait_until_idle()
        before = {name: resident(pid) for name, pid in processes.items()}
        statuses = send(channel, chance, REQUESTS)
        own_server.wait_until_idle()
        after = {name: resident(pid) for name, pid in processes.items()}
        assert text_of(stub.ModelInfer(request())) == expected
        pieces = list(stub.ModelStreamInfer(iter([streamed()])))
        assert "".join(text_of(piece.infer_response) for piece in pieces) == expected
    assert {"front": own_server.process.pid, "rank": own_server.rank()} == processes
    # Every sort of refusal was among them, and no fault of the server.
    assert statuses == {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.UNKNOWN,
    }
    grown = {name: after[name] - before[name] for name in processes}
    allowed = {name: 5 * MIB + 0.03 * before[name] for name in processes}
    assert {name: grown[name] for name in processes if grown[name] > allowed[name]} == {}, (before, after)


def test_the_messages_are_of_every_sort() -> None:
    """Most parse as requests: those get further than garbage does."""
    chance = random.Random(7)
    parsed = [pb.ModelInferRequest.FromString(KINDS["structured"](chance)) for _ in range(500)]
    names = {tensor.name for message in parsed for tensor in message.inputs}
    assert {"messages", "sampling_parameters", "max_tokens", "stop_words"} <= names
