"""ModelInfer: the whole completion in one response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio

from contract.infer_requests import (
    EVERLASTING,
    LONG,
    MODEL,
    PROMPT,
    VERSION,
    answers,
    chat,
    element,
    request,
    streamed,
    text_of,
    triton_inputs,
    value,
)
from contract.runtime_server import RuntimeServer, until
from openmodel_protos import grpc_service_pb2 as pb
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc

Stub = pb_grpc.GRPCInferenceServiceStub
TELL_ALL: Mapping[str, Any] = {
    "return_finish_reason": True,
    "return_num_input_tokens": True,
    "return_num_output_tokens": True,
}
SIXTEEN_MIB = 16 << 20


def refused(stub: Stub, message: pb.ModelInferRequest, status: grpc.StatusCode, *words: str, **more: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(message, **more)
    details = caught.value.details() or ""
    assert (caught.value.code(), [word for word in words if word not in details]) == (status, [])


def test_a_completion_has_name_version_id_and_text(stub: Stub) -> None:
    response = stub.ModelInfer(request(id="a\0b"))
    assert (response.model_name, response.model_version, response.id) == (MODEL, VERSION, "a\0b")
    assert [output.name for output in response.outputs] == ["text_output"]
    assert text_of(response)
    assert len(response.raw_output_contents) == 1


def test_a_completion_does_not_change(stub: Stub) -> None:
    assert text_of(stub.ModelInfer(request())) == text_of(stub.ModelInfer(request(version=VERSION)))


def test_a_completion_equals_its_stream_joined(stub: Stub) -> None:
    whole = text_of(stub.ModelInfer(request(sampling=LONG)))
    answer = answers(stub.ModelStreamInfer(iter([streamed(sampling=LONG)])))[""]
    assert len(answer.pieces) > 1
    assert answer.text == whole


def test_return_flags_add_outputs(stub: Stub) -> None:
    response = stub.ModelInfer(request(**TELL_ALL))
    names = ["text_output", "finish_reason", "num_input_tokens", "num_output_tokens"]
    assert [output.name for output in response.outputs] == names
    assert (value(response, "finish_reason"), value(response, "num_output_tokens")) == ("length", 12)
    longer = stub.ModelInfer(request(PROMPT + " and more", **TELL_ALL))
    assert int(value(longer, "num_input_tokens")) > int(value(response, "num_input_tokens")) > 0
    tell_nothing: Mapping[str, Any] = dict.fromkeys(TELL_ALL, False)
    assert len(stub.ModelInfer(request(**tell_nothing)).outputs) == 1


def test_requested_outputs_are_answered_and_no_others(stub: Stub) -> None:
    response = stub.ModelInfer(request(outputs=["num_output_tokens", "finish_reason"]))
    assert [output.name for output in response.outputs] == ["finish_reason", "num_output_tokens"]
    refused(stub, request(outputs=["nonsense"]), grpc.StatusCode.INVALID_ARGUMENT, "nonsense", "known")
    refused(stub, request(outputs=["kv_cache_hit_rate"]), grpc.StatusCode.INVALID_ARGUMENT, "kv_cache_hit_rate")


def test_the_prompt_is_repeated_when_asked_for(stub: Stub) -> None:
    alone = text_of(stub.ModelInfer(request()))
    assert text_of(stub.ModelInfer(request(exclude_input_in_output=False))) == PROMPT + alone
    assert text_of(stub.ModelInfer(request(exclude_input_in_output=True))) == alone


def test_parameters_of_the_request_do_what_the_tensor_does(stub: Stub) -> None:
    message = request(sampling=None)
    message.parameters["temperature"].double_param = 0
    message.parameters["max_tokens"].int64_param = 12
    message.parameters["ignore_eos"].bool_param = True
    assert text_of(stub.ModelInfer(message)) == text_of(stub.ModelInfer(request()))
    message.parameters["max_tokens"].string_param = "1"
    assert value(stub.ModelInfer(_with_count(message)), "num_output_tokens") == 1
    both = request()
    both.parameters["max_tokens"].int64_param = 12
    refused(stub, both, grpc.StatusCode.INVALID_ARGUMENT, "max_tokens", "sampling_parameters")


def _with_count(message: pb.ModelInferRequest) -> pb.ModelInferRequest:
    message.outputs.add(name="num_output_tokens")
    return message


def test_typed_contents_are_read(stub: Stub) -> None:
    message = pb.ModelInferRequest(model_name=MODEL)
    message.inputs.add(name="text_input", datatype="BYTES", shape=[1]).contents.bytes_contents.append(PROMPT.encode())
    sampling = b'{"temperature": 0, "max_tokens": 12, "ignore_eos": true}'
    message.inputs.add(name="sampling_parameters", datatype="BYTES", shape=[1]).contents.bytes_contents.append(sampling)
    assert text_of(stub.ModelInfer(message)) == text_of(stub.ModelInfer(request()))


def test_tritonclient_reads_every_output(server: RuntimeServer) -> None:
    with triton.InferenceServerClient(server.address) as client:
        result = client.infer(MODEL, triton_inputs(**TELL_ALL), request_id="7", timeout=60_000_000)
    assert result.get_response().id == "7"
    assert result.as_numpy("finish_reason").tolist() == [b"length"]
    assert result.as_numpy("num_output_tokens").tolist() == [12]
    assert result.as_numpy("num_output_tokens").dtype == np.uint32
    assert result.as_numpy("text_output").shape == (1,)


async def test_the_asyncio_client_gets_the_same(server: RuntimeServer, stub: Stub) -> None:
    outputs = [triton.InferRequestedOutput("text_output")]
    async with triton_aio.InferenceServerClient(server.address) as client:
        result = await client.infer(MODEL, triton_inputs(), outputs=outputs)
    assert result.as_numpy("text_output")[0].decode() == text_of(stub.ModelInfer(request()))


def test_stream_needs_the_streaming_method(stub: Stub) -> None:
    refused(stub, request(stream=True), grpc.StatusCode.INVALID_ARGUMENT, "stream", "ModelStreamInfer")
    assert text_of(stub.ModelInfer(request(stream=False)))


def test_what_is_wrong_is_named(stub: Stub) -> None:
    wrong = grpc.StatusCode.INVALID_ARGUMENT
    refused(stub, request(text=None), wrong, "text_input", "messages")
    refused(stub, request(messages=b"[]"), wrong, "text_input", "messages")
    refused(stub, request(text=""), wrong, "text_input", "empty")
    refused(stub, request(sampling={"temprature": 0}), wrong, "temprature", "temperature")
    refused(stub, request(sampling={"max_tokens": 0}), wrong, "max_tokens")
    refused(stub, request(sampling={"n": 65}), wrong, "n must be", "at most 64")
    refused(stub, request(sampling={"prompt_logprobs": 2}), grpc.StatusCode.UNIMPLEMENTED, "'prompt_logprobs'")
    refused(stub, request(image=b"x"), grpc.StatusCode.UNIMPLEMENTED, "image")
    refused(stub, request(max_tokens=b"x"), wrong, "max_tokens", "sampling_parameters")
    refused(stub, request("x y " * 100_000), wrong, "tokens", "shorter")
    surplus = request()
    surplus.raw_input_contents.append(element(b"x"))
    refused(stub, surplus, wrong, "raw_input_contents")
    classes = request(outputs=["text_output"])
    classes.outputs[0].parameters["classification"].int64_param = 3
    refused(stub, classes, wrong, "classification")
    region = request()
    region.inputs[0].parameters["shared_memory_region"].string_param = "r"
    refused(stub, region, grpc.StatusCode.UNIMPLEMENTED, "text_input", "shared memory")


@pytest.mark.parametrize(("name", "version"), [("nobody", ""), (MODEL, "1abc"), (MODEL, f" {VERSION}"), ("", "")])
def test_an_unknown_model_or_version_is_not_found(stub: Stub, name: str, version: str) -> None:
    refused(stub, request(model=name, version=version), grpc.StatusCode.NOT_FOUND, repr(name))


def test_a_status_survives_a_long_message(stub: Stub) -> None:
    refused(stub, request(model="\u4e16" * 100_000), grpc.StatusCode.NOT_FOUND, "unknown model")
    refused(stub, request(sampling={"seed": "x" * 100_000}), grpc.StatusCode.INVALID_ARGUMENT, "seed")
    refused(stub, chat({"role": "r" * 100_000, "content": ""}), grpc.StatusCode.INVALID_ARGUMENT, "unknown role")


def test_the_requests_own_timeout_ends_it(server: RuntimeServer, stub: Stub) -> None:
    message = request()
    message.parameters["timeout"].int64_param = 50_000
    with server.frozen_rank():
        refused(stub, message, grpc.StatusCode.DEADLINE_EXCEEDED, "timeout of 0.05 s")
    message.parameters["timeout"].int64_param = 60_000_000
    assert text_of(stub.ModelInfer(message))


def test_a_deadline_ends_the_request_in_the_rank_too(server: RuntimeServer, stub: Stub) -> None:
    call = stub.ModelInfer.future(request(sampling=EVERLASTING), timeout=1.5)
    until(lambda: call.done() or server.metric("openmodel_runtime_requests_running") == 1, "the request runs")
    assert call.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    server.wait_until_idle()


def test_a_cancelled_request_leaves_the_rank(server: RuntimeServer, stub: Stub) -> None:
    call = stub.ModelInfer.future(request(sampling=EVERLASTING))
    stub.ModelInfer(request())
    server.wait_until_running(1)
    call.cancel()
    assert call.code() == grpc.StatusCode.CANCELLED
    server.wait_until_idle()


def test_a_message_over_the_limit_is_refused_with_resource_exhausted(stub: Stub) -> None:
    refused(stub, request("x" * SIXTEEN_MIB), grpc.StatusCode.RESOURCE_EXHAUSTED)
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.ModelStreamInfer(iter([streamed("x" * SIXTEEN_MIB)])))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    within = request()
    within.parameters["headers"].string_param = "x" * (SIXTEEN_MIB - 4096)
    assert text_of(stub.ModelInfer(within))
