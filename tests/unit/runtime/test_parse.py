from __future__ import annotations

import json
import math
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmodel_protos import grpc_service_pb2 as pb
from openmodel_runtime.errors import InvalidRequest, RequestError, Unsupported
from openmodel_runtime.front.parse import InferRequest, parse_request
from openmodel_runtime.front.tensors import decode_inputs, encode_values


def raw_bytes(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def infer(**inputs: object) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="m")
    for name, value in inputs.items():
        if isinstance(value, bool):
            request.inputs.add(name=name, datatype="BOOL", shape=[1])
            request.raw_input_contents.append(bytes([value]))
        else:
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            request.inputs.add(name=name, datatype="BYTES", shape=[1])
            request.raw_input_contents.append(raw_bytes(data))
    return request


def parse(request: pb.ModelInferRequest) -> InferRequest:
    return parse_request(request, {})


def test_a_prompt_with_parameters() -> None:
    parsed = parse(infer(text_input=b"Hi", sampling_parameters={"temperature": 0}, return_finish_reason=True))
    assert parsed.prompt == "Hi"
    assert parsed.sampling.params.temperature == 0
    assert parsed.outputs == ("text_output", "finish_reason")
    assert not parsed.stream
    assert not parsed.echo_prompt


def test_typed_contents_are_read_too() -> None:
    request = pb.ModelInferRequest()
    request.inputs.add(name="text_input", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"Hi")
    request.inputs.add(name="stream", datatype="BOOL", shape=[1]).contents.bool_contents.append(True)
    parsed = parse(request)
    assert (parsed.prompt, parsed.stream) == ("Hi", True)


def test_parameters_of_the_request_count_without_the_tensor() -> None:
    request = infer(text_input=b"Hi")
    request.parameters["max_tokens"].int64_param = 3
    request.parameters["timeout"].int64_param = 1_500_000
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    parsed = parse(request)
    assert parsed.sampling.params.max_tokens == 3
    assert parsed.timeout_seconds == 1.5


def test_requested_outputs_come_in_the_signatures_order() -> None:
    request = infer(text_input=b"Hi")
    request.outputs.add(name="num_output_tokens")
    request.outputs.add(name="text_output")
    assert parse(request).outputs == ("text_output", "num_output_tokens")


def refused(request: pb.ModelInferRequest, *words: str, error: type[RequestError] = InvalidRequest) -> None:
    with pytest.raises(error) as caught:
        parse(request)
    for word in words:
        assert word in str(caught.value)


def test_what_is_wrong_is_named() -> None:
    refused(infer(), "text_input", "messages")
    refused(infer(text_input=b"Hi", messages=[{"role": "user", "content": "x"}]), "exactly one")
    refused(infer(text_input=b"\xff"), "UTF-8")
    refused(infer(text_input=b"Hi", sampling_parameters=b"{"), "sampling_parameters", "JSON")
    refused(infer(text_input=b"Hi", sampling_parameters=[1]), "JSON object")
    refused(infer(messages={}), "messages")
    refused(infer(messages=[{"role": "user"}]), "messages[0].content")
    refused(infer(messages=[{"content": "x"}]), "messages[0]", "role")
    refused(infer(text_input=b"Hi", nonsense=b"x"), "nonsense", "known")
    refused(infer(text_input=b"Hi", stream=True, exclude_input_in_output=False), "exclude_input_in_output")
    refused(infer(text_input=True), "text_input", "BYTES")
    refused(infer(text_input=b"Hi", image=b"x"), "image", error=Unsupported)
    refused(infer(text_input=b"Hi", max_tokens=b"x"), "max_tokens", "INT32")


def test_parameters_are_checked() -> None:
    for name, value in (("timeout", "soon"), ("triton_enable_empty_final_response", "yes")):
        request = infer(text_input=b"Hi")
        request.parameters[name].string_param = value
        refused(request, name)
    for name in ("priority", "sequence_id"):
        request = infer(text_input=b"Hi")
        request.parameters[name].uint64_param = 1
        refused(request, name, error=Unsupported)
    request = infer(text_input=b"Hi", sampling_parameters={})
    request.parameters["seed"].int64_param = 1
    refused(request, "seed", "sampling_parameters")


def test_log_probabilities_are_computed_when_an_output_shows_them() -> None:
    for outputs, asked, computed in (
        ((), 3, None),
        (("logprobs",), 3, 3),
        (("logprobs",), None, None),
        (("cumulative_logprob",), None, 0),
        (("cumulative_logprob",), 3, 0),
        (("cumulative_logprob", "logprobs"), 3, 3),
    ):
        flags = {f"return_{output}": True for output in outputs}
        sampling = parse(infer(text_input=b"Hi", sampling_parameters={"logprobs": asked}, **flags)).sampling
        assert (sampling.logprobs, sampling.params.logprobs) == (asked, computed)


def test_outputs_are_checked() -> None:
    request = infer(text_input=b"Hi")
    request.outputs.add(name="nonsense")
    refused(request, "nonsense")
    request = infer(text_input=b"Hi")
    request.outputs.add(name="text_output").parameters["classification"].int64_param = 1
    refused(request, "classification")
    request = infer(text_input=b"Hi")
    request.outputs.add(name="text_output").parameters["shared_memory_region"].string_param = "r"
    refused(request, "shared memory", error=Unsupported)


def test_tensors_are_checked() -> None:
    request = infer(text_input=b"Hi")
    request.raw_input_contents.append(b"")
    refused(request, "raw_input_contents")
    for shape, words in (
        ([2], "[1] or [1, 1]"),
        ([], "[1] or [1, 1]"),
        ([1, 1, 1], "[1] or [1, 1]"),
        ([2, 1], "batch"),
    ):
        request = infer(text_input=b"Hi")
        request.inputs[0].shape[:] = shape
        request.raw_input_contents[0] = raw_bytes(*[b"Hi"] * math.prod(shape))
        refused(request, "text_input", "shape", words)
    request = infer(text_input=b"Hi")
    request.inputs[0].shape[:] = [1, 1]
    assert parse(request).prompt == "Hi"
    request = infer(text_input=b"Hi")
    request.raw_input_contents[0] = request.raw_input_contents[0][:-1]
    refused(request, "text_input", "left")
    request = infer(text_input=b"Hi")
    request.inputs[0].contents.bytes_contents.append(b"Hi")
    refused(request, "contents")
    request = infer(text_input=b"Hi")
    request.inputs[0].datatype = "TEXT"
    refused(request, "TEXT")
    request = infer(text_input=b"Hi", stream=True)
    request.inputs[1].name = "text_input"
    refused(request, "twice")


@given(st.binary())
def test_no_bytes_break_the_parser(data: bytes) -> None:
    request = pb.ModelInferRequest()
    request.inputs.add(name="text_input", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(data)
    with suppress(RequestError):
        parse(request)


@given(st.lists(st.binary(max_size=20)))
def test_bytes_survive_encoding(values: list[bytes]) -> None:
    request = pb.ModelInferRequest()
    request.inputs.add(name="x", datatype="BYTES", shape=[len(values)])
    request.raw_input_contents.append(encode_values("BYTES", values))
    assert decode_inputs(request)["x"].values == tuple(values)
