"""Requests that no client would send: each gets an answer, and the server goes on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError

from contract.infer_requests import GREEDY, MODEL, Requests, element, final, request, streamed, text_of, until_answered
from contract.runtime_server import LIMIT_SECONDS, RuntimeServer
from openmodel_protos import grpc_service_pb2 as pb
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc

Stub = pb_grpc.GRPCInferenceServiceStub
UNARY = "/inference.GRPCInferenceService/ModelInfer"
REFUSALS = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED}
NAMES = ["text_input", "messages", "stream", "sampling_parameters", "return_finish_reason", "max_tokens", "", "\u4e16"]
DATATYPES = ["BYTES", "BOOL", "UINT8", "INT32", "UINT64", "FP16", "FP32", "BF16", "", "bytes"]
SHAPES = [[], [0], [1, 1], [2], [-1], [2**62, 2**62], [0, -1], [3, 3]]
PARAMETERS = ["temperature", "max_tokens", "seed", "timeout", "priority", "sequence_id", "stop", "headers", "\u00e9"]
SAMPLING = [
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "stop",
    "stop_token_ids",
    "min_tokens",
    "ignore_eos",
    "n",
    "",
]
ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    2**64,
    1e-300,
    1e300,
    float("nan"),
    "",
    "1",
    "x",
    "\u4e16",
    [],
    [0],
    [""],
    [[[]]],
    {},
    {"a": 1},
]
RAW = [b"", b"\0", b"\1", b"\2", bytes(4), element(b""), element(b"{"), element(b"[]"), element(b"\xff"), b"\xff" * 9]


@pytest.fixture(autouse=True)
def _the_server_goes_on(server: RuntimeServer, stub: Stub) -> Iterator[None]:
    processes = (server.process.pid, server.rank())
    expected = text_of(stub.ModelInfer(request()))
    yield
    assert text_of(stub.ModelInfer(request())) == expected
    server.wait_until_idle()
    assert (server.process.pid, server.rank()) == processes


def changed_input(message: pb.ModelInferRequest, chance: random.Random) -> None:
    tensor = chance.choice(message.inputs)
    what = chance.choice(["name", "datatype", "shape", "contents", "shared_memory_region"])
    if what == "name":
        tensor.name = chance.choice(NAMES)
    elif what == "datatype":
        tensor.datatype = chance.choice(DATATYPES)
    elif what == "shape":
        tensor.shape[:] = chance.choice(SHAPES)
    elif what == "contents":
        tensor.contents.bytes_contents.append(b"x")
    else:
        tensor.parameters[what].string_param = "r"


def changed_raw(message: pb.ModelInferRequest, chance: random.Random) -> None:
    at = chance.randrange(len(message.inputs))
    message.raw_input_contents[at:] = [chance.choice(RAW), *message.raw_input_contents[at + chance.choice([0, 1, 1]) :]]


def another_input(message: pb.ModelInferRequest, chance: random.Random) -> None:
    message.inputs.add(name=chance.choice(NAMES), datatype=chance.choice(DATATYPES[:2]), shape=[1])
    message.raw_input_contents.append(chance.choice(RAW))


def another_parameter(message: pb.ModelInferRequest, chance: random.Random) -> None:
    field = chance.choice(["bool_param", "int64_param", "string_param", "double_param", "uint64_param"])
    value = {"bool_param": True, "string_param": "x", "double_param": float("nan"), "uint64_param": 2**64 - 1}
    setattr(message.parameters[chance.choice(PARAMETERS)], field, value.get(field, -1))


def another_output(message: pb.ModelInferRequest, chance: random.Random) -> None:
    output = message.outputs.add(name=chance.choice(["text_output", "finish_reason", "x", ""]))
    if chance.random() < 0.5:
        output.parameters[chance.choice(["classification", "shared_memory_region", "x"])].int64_param = 1


CHANGES = [changed_input, changed_raw, another_input, another_parameter, another_output]


def random_request(chance: random.Random) -> pb.ModelInferRequest:
    """A good request with odd sampling parameters, or with a few changes, or both."""
    odd = {name: chance.choice(ODD) for name in chance.sample(SAMPLING, chance.choice([0, 1, 1, 2]))}
    message = request(sampling=chance.choice([None, {**GREEDY, **odd}]), id=str(chance.random()))
    for change in chance.choices(CHANGES, k=chance.choice([0, 1, 1, 2])):
        change(message, chance)
    return message


def damaged_request(chance: random.Random) -> bytes:
    data = bytearray(request().SerializeToString())
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(data))
        # Most often of the same length: then the message still parses.
        data[at : at + 1] = chance.randbytes(chance.choice([1, 1, 1, 0, 2]))
    return bytes(data)


KINDS: dict[str, Callable[[random.Random], bytes]] = {
    "structured": lambda chance: random_request(chance).SerializeToString(),
    "damaged": damaged_request,
    "garbage": lambda chance: chance.randbytes(chance.randint(1, 200)),
}


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
