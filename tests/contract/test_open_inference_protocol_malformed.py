"""Requests that no client would send: each gets an answer, and the server goes on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError

from contract.infer_requests import GREEDY, MODEL, Requests, element, final, request, streamed, text_of, until_answered
from contract.malformed_requests import KINDS, random_request
from contract.runtime_server import LIMIT_SECONDS, RuntimeServer
from openmodel_protos import grpc_service_pb2 as pb
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc

Stub = pb_grpc.GRPCInferenceServiceStub
UNARY = "/inference.GRPCInferenceService/ModelInfer"
REFUSALS = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED}


@pytest.fixture(autouse=True)
def _the_server_goes_on(server: RuntimeServer, stub: Stub) -> Iterator[None]:
    processes = (server.process.pid, server.rank())
    expected = text_of(stub.ModelInfer(request()))
    yield
    assert text_of(stub.ModelInfer(request())) == expected
    server.wait_until_idle()
    assert (server.process.pid, server.rank()) == processes


def allowed(data: bytes) -> set[grpc.StatusCode]:
    try:
        pb.ModelInferRequest.FromString(data)
    except DecodeError:
        return {grpc.StatusCode.UNKNOWN}
    return {grpc.StatusCode.OK, *REFUSALS}


@pytest.mark.parametrize("kind", KINDS)
def test_any_bytes_are_answered(server: RuntimeServer, kind: str) -> None:
    chance = random.Random(kind)
    sent = [KINDS[kind](chance) for _ in range(300)]
    with grpc.insecure_channel(server.address) as channel:
        infer: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(UNARY, request_serializer=bytes)
        calls = [infer.future(data, timeout=LIMIT_SECONDS) for data in sent]
        codes = [call.code() for call in calls]
    assert [(data, code) for data, code in zip(sent, codes, strict=True) if code not in allowed(data)] == []
    assert len(set(codes)) > 1 or kind == "garbage"


def test_any_request_of_a_stream_is_answered_once(stub: Stub) -> None:
    chance = random.Random(0)
    sent = [random_request(chance) for _ in range(300)]
    requests = Requests(*sent, streamed(id="good"))
    call = stub.ModelStreamInfer(iter(requests), timeout=LIMIT_SECONDS)
    read = until_answered(call, "good")
    requests.done()
    finals = [message.infer_response.id for message in [*read, *call] if final(message)]
    assert sorted(finals) == sorted([message.id for message in sent] + ["good"])


def many_dimensions() -> pb.ModelInferRequest:
    message = request()
    message.inputs[0].shape[:] = [2**62] * 1_000_000
    return message


def many_elements(datatype: str, raw: bytes) -> pb.ModelInferRequest:
    message = request(sampling=None)
    message.inputs[0].datatype = datatype
    message.raw_input_contents[0] = raw
    return message


def many_inputs() -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name=MODEL)
    for number in range(100_000):
        message.inputs.add(name=str(number), datatype="BOOL", shape=[1])
        message.raw_input_contents.append(b"\1")
    return message


def long_name() -> pb.ModelInferRequest:
    inputs: Mapping[str, Any] = {"x" * (4 << 20): True}
    return request(**inputs)


COSTLY: dict[str, Callable[[], pb.ModelInferRequest]] = {
    "dimensions": many_dimensions,
    "empty elements": lambda: many_elements("BYTES", bytes(15 << 20)),
    "numbers": lambda: many_elements("UINT8", bytes(15 << 20)),
    "one long element": lambda: many_elements("BYTES", element(bytes(4 << 20) + b"\xff")),
    "a length beyond the end": lambda: many_elements("BYTES", b"\xff" * 8),
    "inputs": many_inputs,
    "a long name": long_name,
    "a long parameter": lambda: request(sampling={**GREEDY, "stop": ["x" * (4 << 20), ""]}),
}


@pytest.mark.parametrize("kind", COSTLY)
def test_a_costly_request_is_refused_before_it_costs(stub: Stub, kind: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(COSTLY[kind](), timeout=LIMIT_SECONDS)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
