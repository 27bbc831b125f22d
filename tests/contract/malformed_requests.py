"""Requests that no client would send: good ones with a few things changed, damaged ones, and plain garbage.

Knows the protocol's messages and where a parser may stumble; knows no server. Everything follows from the seed.
"""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Callable
from typing import Any

from contract.infer_requests import GREEDY, chat, element, request
from openmodel_protos import grpc_service_pb2 as pb

NAMES = [
    *("text_input", "messages", "stream", "sampling_parameters", "return_finish_reason", "return_logprobs", "image"),
    *("max_tokens", "temperature", "stop_words", "beam_width", "streaming", "sampling_param_stop", "", "\u4e16"),
]
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
    "logprobs",
    "presence_penalty",
    "repetition_penalty",
    "skip_special_tokens",
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


def with_sampling(chance: random.Random) -> pb.ModelInferRequest:
    """Sampling parameters with odd values, or none at all."""
    odd = {name: chance.choice(ODD) for name in chance.sample(SAMPLING, chance.choice([0, 1, 1, 2]))}
    return request(sampling=chance.choice([None, {**GREEDY, **odd}]))


def with_messages(chance: random.Random) -> pb.ModelInferRequest:
    """Messages of odd parts; sampling parameters whose JSON is cut off."""
    odd = [chance.choice(ODD) for _ in range(3)]
    message: Any = {"role": chance.choice(["user", odd[0]]), "content": chance.choice(["Hi", odd[1]])}
    made = chat(*chance.choice([[message], [message, message], [odd[2]], []]), sampling=GREEDY)
    if chance.random() < 0.5:
        cut = json.dumps({**GREEDY, "stop": ["\ud83d"]}).encode()
        at = [tensor.name for tensor in made.inputs].index("sampling_parameters")
        made.raw_input_contents[at] = element(cut[: chance.randrange(len(cut) + 1)])
    return made


def with_tensors(chance: random.Random) -> pb.ModelInferRequest:
    """The names of TensorRT-LLM."""
    made = request(sampling=None)
    for name, datatype, raw in (
        ("max_tokens", "INT32", struct.pack("<i", chance.choice([2, 2, 2, 0, -1]))),
        ("temperature", "FP32", struct.pack("<f", chance.choice([0.0, 0.0, -1.0, math.nan, math.inf]))),
        ("stop_words", "BYTES", chance.choice(RAW)),
    ):
        made.inputs.add(name=name, datatype=datatype, shape=chance.choice([[1], [1, 1], [2, 1]]))
        made.raw_input_contents.append(raw)
    return made


BASES = [with_sampling, with_sampling, with_messages, with_tensors]


def random_request(chance: random.Random) -> pb.ModelInferRequest:
    """A good request with something odd in it, or with a few changes, or both; its id is its own."""
    message = chance.choice(BASES)(chance)
    message.id = str(chance.random())
    for change in chance.choices(CHANGES, k=chance.choice([0, 1, 1, 2])):
        change(message, chance)
    return message


def damaged_request(chance: random.Random) -> bytes:
    """Bytes of a good request, a few of them changed, or the end of them missing."""
    data = bytearray(request().SerializeToString())
    if chance.random() < 0.2:
        return bytes(data[: chance.randrange(len(data))])
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
"""By what was done to them."""
