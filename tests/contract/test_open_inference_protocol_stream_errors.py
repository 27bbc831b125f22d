"""ModelStreamInfer when something is wrong: one request's error is nobody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator

import grpc
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from contract.infer_requests import (
    EVERLASTING,
    GREEDY,
    LONG,
    MODEL,
    PROMPT,
    Requests,
    answers,
    element,
    final,
    request,
    streamed,
    text_of,
    triton_inputs,
    until_answered,
)
from contract.runtime_server import LIMIT_SECONDS, RuntimeServer
from openmodel_protos import grpc_service_pb2 as pb
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc

Stub = pb_grpc.GRPCInferenceServiceStub
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
UNARY = "/inference.GRPCInferenceService/ModelInfer"
NO_MESSAGE = b"\xff\xff\xff\xff"
GRPC_ERRORS = (("triton_grpc_error", "true"),)


def with_classification() -> pb.ModelInferRequest:
    message = streamed(id="classes", outputs=["text_output"])
    message.outputs[0].parameters["classification"].int64_param = 3
    return message


def with_surplus() -> pb.ModelInferRequest:
    message = streamed(id="surplus")
    message.raw_input_contents.append(element(b"x"))
    return message


def with_wrong_type() -> pb.ModelInferRequest:
    message = streamed(id="type")
    message.parameters["triton_enable_empty_final_response"].string_param = "yes"
    return message


BAD = {
    "model": (streamed(id="model", model="nobody"), "unknown model 'nobody'"),
    "version": (streamed(id="version", version="1abc"), "no version '1abc'"),
    "input": (streamed(id="input", nonsense=True), "unknown input 'nonsense'"),
    "prompt": (request(None, id="prompt"), "exactly one of the inputs text_input and messages"),
    "sampling": (streamed(id="sampling", sampling={"top_p": 2}), "top_p"),
    "echo": (streamed(id="echo", exclude_input_in_output=False), "exclude_input_in_output"),
    "classes": (with_classification(), "classification"),
    "surplus": (with_surplus(), "raw_input_contents"),
    "type": (with_wrong_type(), "expected bool_param"),
    "image": (streamed(id="image", image=b"x"), "image"),
}


def test_every_bad_request_gets_its_own_error_and_the_good_ones_go_on(server: RuntimeServer, stub: Stub) -> None:
    requests = Requests(streamed(sampling=LONG, id="first"))
    call = stub.ModelStreamInfer(iter(requests))
    with server.frozen_rank():
        for message, _ in BAD.values():
            requests.send(message)
        requests.send(streamed(id="last"))
        # Errors come at once: they do not wait for what the rank is busy with.
        read = [message for id in list(BAD)[-1:] for message in until_answered(call, id)]
    requests.done()
    found = answers([*read, *call])
    assert call.code() == grpc.StatusCode.OK
    for id, (_, words) in BAD.items():
        assert words in found[id].error
        assert not found[id].pieces
    assert (found["first"].error, found["first"].num_output_tokens) == ("", 300)
    assert (found["last"].error, found["last"].num_output_tokens) == ("", 12)


def test_an_error_names_model_version_and_id(stub: Stub) -> None:
    (message,) = stub.ModelStreamInfer(iter([streamed(id="7", model="nobody", version="3")]))
    response = message.infer_response
    assert (response.model_name, response.model_version, response.id) == ("nobody", "3", "7")
    assert (list(response.outputs), list(response.raw_output_contents), final(message)) == ([], [], True)


def test_tritonclient_goes_on_after_an_error(server: RuntimeServer, stub: Stub) -> None:
    events: list[tuple[triton.InferResult | None, InferenceServerException | None]] = []
    with triton.InferenceServerClient(server.address) as client:
        client.start_stream(lambda result, error: events.append((result, error)))
        client.async_stream_infer("nobody", triton_inputs())
        client.async_stream_infer(MODEL, triton_inputs())
        client.stop_stream()
    assert sorted(str(error) for _, error in events if error) == ["unknown model 'nobody'; this server has 'tiny'"]
    (result,) = [result for result, _ in events if result]
    assert text_of(result.get_response()) == text_of(stub.ModelInfer(request()))


async def test_the_asyncio_client_goes_on_after_an_error(server: RuntimeServer) -> None:
    async def requests() -> AsyncIterator[dict[str, object]]:
        yield {"model_name": "nobody", "inputs": triton_inputs()}
        yield {"model_name": MODEL, "inputs": triton_inputs()}

    async with triton_aio.InferenceServerClient(server.address) as client:
        outcomes = [error is None async for _, error in client.stream_infer(requests())]
    assert sorted(outcomes) == [False, True]


def test_a_timeout_in_a_stream_ends_that_request_alone(server: RuntimeServer, stub: Stub) -> None:
    hurried = streamed(id="hurried")
    hurried.parameters["timeout"].int64_param = 50_000
    requests = Requests(streamed(sampling=LONG, id="patient"), hurried)
    call = stub.ModelStreamInfer(iter(requests))
    with server.frozen_rank():
        read = until_answered(call, "hurried")
    requests.done()
    found = answers([*read, *call])
    assert "timeout of 0.05 s" in found["hurried"].error
    assert found["patient"].num_output_tokens == 300


def test_a_timeout_strikes_also_while_responses_are_being_written(server: RuntimeServer, stub: Stub) -> None:
    """Many busy requests on one call wait for each other to write; each is told of its end all the same."""
    requests = []
    for number in range(16):
        requests.append(streamed(sampling=EVERLASTING, id=str(number)))
        requests[-1].parameters["timeout"].int64_param = 300_000 + 1_000 * number
    found = answers(stub.ModelStreamInfer(iter(requests)))
    assert sorted(found, key=int) == [str(number) for number in range(16)]
    assert all("timeout" in answer.error for answer in found.values())
    server.wait_until_idle()


def test_with_triton_grpc_error_the_first_error_ends_that_call_alone(server: RuntimeServer, stub: Stub) -> None:
    other = Requests(streamed(sampling=LONG, id="other"))
    with server.frozen_rank():
        beside = stub.ModelStreamInfer(iter(other))
        call = stub.ModelStreamInfer(
            iter(Requests(streamed(sampling=EVERLASTING), streamed(model="nobody"))), metadata=GRPC_ERRORS
        )
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
    assert (caught.value.code(), "nobody" in (caught.value.details() or "")) == (grpc.StatusCode.NOT_FOUND, True)
    other.done()
    assert answers(beside)["other"].num_output_tokens == 300
    server.wait_until_idle()


def test_triton_grpc_error_means_true_only(stub: Stub) -> None:
    call = stub.ModelStreamInfer(iter([streamed(model="nobody")]), metadata=(("triton_grpc_error", "false"),))
    assert "nobody" in answers(call)[""].error


def raw_call(
    channel: grpc.Channel, messages: Iterator[bytes], metadata: Iterable[tuple[str, str]] = ()
) -> Iterator[pb.ModelStreamInferResponse]:
    method = channel.stream_stream(
        STREAM, request_serializer=bytes, response_deserializer=pb.ModelStreamInferResponse.FromString
    )
    return method(messages, metadata=tuple(metadata), timeout=LIMIT_SECONDS)


def test_a_message_that_does_not_parse_ends_the_call(server: RuntimeServer, stub: Stub) -> None:
    with grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            list(raw_call(channel, iter([NO_MESSAGE])))
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "ModelInferRequest" in (caught.value.details() or "")
        # So it does after good requests, also while one of them is under way and the caller keeps the call open.
        under_way = streamed(sampling=EVERLASTING).SerializeToString()
        call = raw_call(channel, iter(Requests(under_way, NO_MESSAGE, under_way)))
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    server.wait_until_idle()
    assert text_of(stub.ModelInfer(request()))


@pytest.mark.parametrize("grpc_errors", [False, True])
def test_a_call_ends_with_its_error_though_a_response_waits_for_its_reader(
    server: RuntimeServer, stub: Stub, grpc_errors: bool
) -> None:
    # The id is in every response: more than a connection holds for somebody who does not read, from the first one on.
    unread = streamed(sampling=EVERLASTING, id="x" * (8 << 20)).SerializeToString()
    wrong = streamed(model="nobody").SerializeToString() if grpc_errors else NO_MESSAGE
    requests = Requests(unread)
    with grpc.insecure_channel(server.address, [("grpc.max_receive_message_length", -1)]) as channel:
        call = raw_call(channel, iter(requests), GRPC_ERRORS if grpc_errors else ())
        server.wait_until_running(1)
        requests.send(wrong)
        # Once it has answered another request, the server has read the error.
        assert text_of(stub.ModelInfer(request()))
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
    status = grpc.StatusCode.NOT_FOUND if grpc_errors else grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.code() == status
    server.wait_until_idle()


def test_a_unary_message_that_does_not_parse_is_refused(server: RuntimeServer, stub: Stub) -> None:
    with grpc.insecure_channel(server.address) as channel:
        method = channel.unary_unary(
            UNARY, request_serializer=bytes, response_deserializer=pb.ModelInferResponse.FromString
        )
        with pytest.raises(grpc.RpcError) as caught:
            method(NO_MESSAGE)
    # grpc.aio's own answer: the method never sees the message.
    assert (caught.value.code(), "DecodeError" in (caught.value.details() or "")) == (grpc.StatusCode.UNKNOWN, True)
    assert text_of(stub.ModelInfer(request(PROMPT, GREEDY)))
