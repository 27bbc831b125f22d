"""ModelInferRequests as callers write them, and what responses say.

Knows the protocol's messages; knows no server.
"""

from __future__ import annotations

import json
import math
import queue
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from tritonclient.grpc import InferInput

from openmodel_protos import grpc_service_pb2 as pb

Message = TypeVar("Message")
MODEL, VERSION = "tiny", "r1"
GREEDY: Mapping[str, Any] = {"temperature": 0, "max_tokens": 12, "ignore_eos": True}
LONG: Mapping[str, Any] = {**GREEDY, "max_tokens": 300}
# Goes on for minutes: only for requests that are ended before.
EVERLASTING: Mapping[str, Any] = {**GREEDY, "max_tokens": 200_000}
PROMPT = "The operator keeps a model running"


def element(value: bytes) -> bytes:
    """One BYTES element on the wire."""
    return struct.pack("<I", len(value)) + value


def request(
    text: str | None = PROMPT,
    sampling: Mapping[str, Any] | None = GREEDY,
    *,
    id: str = "",
    model: str = MODEL,
    version: str = "",
    outputs: Iterable[str] = (),
    **inputs: bool | bytes,
) -> pb.ModelInferRequest:
    """A request with its inputs in raw_input_contents, as tritonclient sends them."""
    message = pb.ModelInferRequest(model_name=model, model_version=version, id=id)
    given: dict[str, bool | bytes] = {}
    if text is not None:
        given["text_input"] = text.encode()
    if sampling is not None:
        given["sampling_parameters"] = json.dumps(sampling).encode()
    for name, value in {**given, **inputs}.items():
        kind, raw = ("BOOL", bytes([value])) if isinstance(value, bool) else ("BYTES", element(value))
        message.inputs.add(name=name, datatype=kind, shape=[1])
        message.raw_input_contents.append(raw)
    for name in outputs:
        message.outputs.add(name=name)
    return message


MIXED = [
    request(PROMPT),
    request("In the year 2024"),
    request(PROMPT, {"temperature": 0.9, "seed": 4, "max_tokens": 20, "ignore_eos": True}),
    request(PROMPT, {"temperature": 1.0, "seed": 2, "max_tokens": 9, "n": 4, "ignore_eos": True}),
]
"""Some of each kind."""


def streamed(text: str = PROMPT, sampling: Mapping[str, Any] = GREEDY, **more: Any) -> pb.ModelInferRequest:
    """A request for a response a step, with all that a response can tell."""
    flags = dict.fromkeys(("stream", "return_finish_reason", "return_num_output_tokens"), True)
    return request(text, sampling, **{**flags, **more})


def chat(*messages: Mapping[str, Any], sampling: Mapping[str, Any] = GREEDY, **more: Any) -> pb.ModelInferRequest:
    return request(None, sampling, messages=json.dumps(messages).encode(), **more)


def triton_inputs(text: str = PROMPT, sampling: Mapping[str, Any] = GREEDY, **flags: bool) -> list[InferInput]:
    """The same for tritonclient."""
    inputs = []
    for name, value in {"text_input": text, "sampling_parameters": json.dumps(sampling)}.items():
        inputs.append(InferInput(name, [1], "BYTES"))
        inputs[-1].set_data_from_numpy(np.array([value.encode()], dtype=np.object_))
    for name, flag in flags.items():
        inputs.append(InferInput(name, [1], "BOOL"))
        inputs[-1].set_data_from_numpy(np.array([flag]))
    return inputs


def typed_inputs(inputs: Mapping[str, tuple[str, Any]], batch: bool = False) -> list[InferInput]:
    """Inputs for tritonclient, each a datatype and a value or a list of values; `batch` puts a dimension before."""
    made = []
    for name, (datatype, given) in inputs.items():
        elements = given if isinstance(given, list) else [given]
        kind = _NUMBERS[datatype][1] if datatype in _NUMBERS else {"BOOL": np.bool_, "BYTES": np.object_}[datatype]
        array: np.ndarray[Any, Any] = np.array([elements] if batch else elements, dtype=kind)
        made.append(InferInput(name, list(array.shape), datatype))
        made[-1].set_data_from_numpy(array)
    return made


class Requests(Generic[Message]):
    """The sending half of a call, which stays open until `done`."""

    def __init__(self, *first: Message) -> None:
        self._queue: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        for message in first:
            self.send(message)

    def send(self, message: Message) -> None:
        self._queue.put(message)

    def done(self) -> None:
        self._queue.put(None)

    def __iter__(self) -> Iterator[Message]:
        return iter(self._queue.get, None)


_NUMBERS = {"UINT32": ("I", np.uint32), "INT32": ("i", np.int32), "UINT64": ("Q", np.uint64), "FP32": ("f", np.float32)}


def values(response: pb.ModelInferResponse, output: str) -> list[Any]:
    """All elements of an output, text decoded."""
    index = [tensor.name for tensor in response.outputs].index(output)
    tensor, raw = response.outputs[index], response.raw_output_contents[index]
    found: list[Any] = []
    if tensor.datatype == "BYTES":
        while raw:
            (length,) = struct.unpack_from("<I", raw)
            assert len(raw) >= 4 + length
            found.append(raw[4 : 4 + length].decode())
            raw = raw[4 + length :]
    else:
        letter, _ = _NUMBERS[tensor.datatype]
        found += struct.unpack(f"<{len(raw) // struct.calcsize(letter)}{letter}", raw)
    assert len(found) == math.prod(tensor.shape)
    return found


def value(response: pb.ModelInferResponse, output: str) -> str | int:
    """The one element of an output."""
    (only,) = values(response, output)
    assert isinstance(only, str | int)
    return only


def text_of(response: pb.ModelInferResponse) -> str:
    return str(value(response, "text_output"))


def final(message: pb.ModelStreamInferResponse) -> bool:
    """Whether a response on a stream is its request's last; every one says so."""
    return message.infer_response.parameters["triton_final_response"].bool_param


@dataclass(frozen=True)
class Answer:
    """All responses to one request of a stream."""

    text: str
    finish_reason: str
    num_output_tokens: int
    error: str
    pieces: tuple[str, ...]


def answers(messages: Iterable[pb.ModelStreamInferResponse]) -> dict[str, Answer]:
    """The responses on a stream by request; each request has one final response, its last."""
    by_id: dict[str, list[pb.ModelStreamInferResponse]] = {}
    for message in messages:
        by_id.setdefault(message.infer_response.id, []).append(message)
    for id, of_one in by_id.items():
        assert [final(message) for message in of_one] == [False] * (len(of_one) - 1) + [True], id
    return {id: _answer(of_one) for id, of_one in by_id.items()}


def _answer(messages: list[pb.ModelStreamInferResponse]) -> Answer:
    responses = [message.infer_response for message in messages if not message.error_message]
    pieces = tuple(text_of(response) for response in responses)
    return Answer(
        text="".join(pieces),
        finish_reason=str(value(responses[-1], "finish_reason")) if responses else "",
        num_output_tokens=sum(int(value(response, "num_output_tokens")) for response in responses),
        error=messages[-1].error_message,
        pieces=pieces,
    )


def until_answered(messages: Iterator[pb.ModelStreamInferResponse], id: str) -> list[pb.ModelStreamInferResponse]:
    """Reads a stream up to the final response of one request."""
    read = []
    for message in messages:
        read.append(message)
        if message.infer_response.id == id and final(message):
            return read
    raise AssertionError(f"the stream ended before {id} was answered")
