"""ModelStreamInfer: any number of requests on one call, a response a step."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Mapping
from typing import Any

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
    VERSION,
    Requests,
    answers,
    final,
    request,
    streamed,
    text_of,
    triton_inputs,
    until_answered,
    value,
)
from contract.runtime_server import LIMIT_SECONDS, RuntimeServer
from openmodel_protos import grpc_service_pb2 as pb
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc

Stub = pb_grpc.GRPCInferenceServiceStub
Event = tuple[triton.InferResult | None, InferenceServerException | None]
FLAGS: Mapping[str, Any] = {"stream": True, "return_finish_reason": True, "return_num_output_tokens": True}


def test_every_response_has_name_version_id_and_final_flag(stub: Stub) -> None:
    responses = [message.infer_response for message in stub.ModelStreamInfer(iter([streamed(id="a\0b")]))]
    assert {(each.model_name, each.model_version, each.id) for each in responses} == {(MODEL, VERSION, "a\0b")}
    assert all("triton_final_response" in each.parameters for each in responses)


def test_only_the_last_response_is_final(stub: Stub) -> None:
    messages = list(stub.ModelStreamInfer(iter([streamed(sampling=LONG)])))
    assert [final(message) for message in messages] == [False] * (len(messages) - 1) + [True]
    answer = answers(messages)[""]
    assert (answer.finish_reason, answer.num_output_tokens) == ("length", LONG["max_tokens"])


def test_a_request_without_stream_has_one_response(stub: Stub) -> None:
    (message,) = stub.ModelStreamInfer(iter([request(id="whole")]))
    assert final(message)
    assert text_of(message.infer_response) == text_of(stub.ModelInfer(request()))


def test_requests_on_one_call_are_interleaved_and_told_apart(server: RuntimeServer, stub: Stub) -> None:
    alone = {id: answers(stub.ModelStreamInfer(iter([streamed(id, LONG, id=id)])))[id].text for id in ("one", "two")}
    requests: Requests[pb.ModelInferRequest] = Requests()
    call = stub.ModelStreamInfer(iter(requests))
    with server.frozen_rank():
        for id in alone:
            requests.send(streamed(id, LONG, id=id))
        requests.done()
    messages = list(call)
    ids = [message.infer_response.id for message in messages]
    assert ids.index("two") < len(ids) - 1 - ids[::-1].index("one")
    assert ids.index("one") < len(ids) - 1 - ids[::-1].index("two")
    assert {id: answer.text for id, answer in answers(messages).items()} == alone


def test_half_closing_waits_for_what_is_under_way(server: RuntimeServer, stub: Stub) -> None:
    with server.frozen_rank():
        call = stub.ModelStreamInfer(iter([streamed(sampling=LONG, id=str(n)) for n in range(4)]))
        stub.ServerLive(pb.ServerLiveRequest())
    assert {id: answer.num_output_tokens for id, answer in answers(call).items()} == dict.fromkeys("0123", 300)
    assert call.code() == grpc.StatusCode.OK


def test_a_call_serves_request_after_request(stub: Stub) -> None:
    requests: Requests[pb.ModelInferRequest] = Requests()
    call = stub.ModelStreamInfer(iter(requests))
    texts = []
    for id in ("1", "2", "3"):
        requests.send(streamed(id=id))
        texts.append(answers(until_answered(call, id))[id].text)
    requests.done()
    assert list(call) == []
    assert len(set(texts)) == 1


def test_an_empty_call_ends_well(stub: Stub) -> None:
    call = stub.ModelStreamInfer(iter([]))
    assert list(call) == []
    assert call.code() == grpc.StatusCode.OK


def stream_events(client: triton.InferenceServerClient) -> queue.SimpleQueue[Event]:
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    client.start_stream(lambda result, error: events.put((result, error)))
    return events


def results(events: queue.SimpleQueue[Event], id: str) -> list[pb.ModelInferResponse]:
    """The responses to one request, up to its final one."""
    found: list[pb.ModelInferResponse] = []
    while not found or not found[-1].parameters["triton_final_response"].bool_param:
        result, error = events.get(timeout=LIMIT_SECONDS)
        assert error is None, error
        assert result is not None
        found.append(result.get_response())
    assert {response.id for response in found} == {id}
    return found


@pytest.mark.parametrize("empty_final", [False, True])
def test_tritonclient_sees_one_final_response(server: RuntimeServer, stub: Stub, empty_final: bool) -> None:
    with triton.InferenceServerClient(server.address) as client:
        events = stream_events(client)
        client.async_stream_infer(
            MODEL, triton_inputs(**FLAGS), request_id="7", enable_empty_final_response=empty_final
        )
        found = results(events, "7")
        client.stop_stream()
        assert events.empty()
    assert "".join(map(text_of, found)) == text_of(stub.ModelInfer(request()))


def test_tritonclient_stopping_waits_for_what_is_under_way(server: RuntimeServer) -> None:
    with triton.InferenceServerClient(server.address) as client:
        events = stream_events(client)
        client.async_stream_infer(MODEL, triton_inputs(PROMPT, LONG, **FLAGS), request_id="7")
        client.stop_stream()
        assert results(events, "7")
        assert events.empty()


def test_tritonclient_cancelling_ends_the_request_in_the_rank(server: RuntimeServer, stub: Stub) -> None:
    cancelled = cancel_count(stub)
    with triton.InferenceServerClient(server.address) as client:
        events = stream_events(client)
        client.async_stream_infer(MODEL, triton_inputs(PROMPT, EVERLASTING, **FLAGS))
        client.async_stream_infer(MODEL, triton_inputs(PROMPT, EVERLASTING, **FLAGS))
        server.wait_until_running(2)
        client.stop_stream(cancel_requests=True)
        while (event := events.get(timeout=LIMIT_SECONDS))[1] is None:
            pass
    assert "[StatusCode.CANCELLED]" in str(event[1])
    server.wait_until_idle()
    assert cancel_count(stub) == cancelled + 2


def cancel_count(stub: Stub) -> int:
    (statistics,) = stub.ModelStatistics(pb.ModelStatisticsRequest()).model_stats
    return int(statistics.response_stats["0"].cancel.count)


def test_a_client_that_vanishes_leaves_nothing_in_the_rank(server: RuntimeServer) -> None:
    with server.stub() as stub:
        call = stub.ModelStreamInfer(iter(Requests(streamed(sampling=EVERLASTING))))
        next(call)
    server.wait_until_idle()


def test_a_slow_reader_holds_up_nobody_else(server: RuntimeServer, stub: Stub) -> None:
    with server.stub() as slow:
        call = slow.ModelStreamInfer(iter(Requests(streamed(sampling=EVERLASTING))))
        next(call)
        assert answers(stub.ModelStreamInfer(iter([streamed(sampling=LONG)])))[""].num_output_tokens == 300
    server.wait_until_idle()


def test_a_slow_reader_gets_fewer_and_larger_responses(server: RuntimeServer, stub: Stub) -> None:
    """Tokens that come while nobody reads wait as tokens, not as responses."""
    # The id is in every response: a few of them fill what the connection holds for a reader.
    with server.stub() as slow:
        call = slow.ModelStreamInfer(iter([streamed(sampling=LONG, id="x" * 100_000)]))
        next(call)
        server.wait_until_idle()
        late = list(call)
    assert len(late) < 100
    assert sum(int(value(each.infer_response, "num_output_tokens")) for each in late) > 250
    whole = text_of(stub.ModelInfer(request(sampling=LONG)))
    assert whole.endswith("".join(text_of(each.infer_response) for each in late))


async def asked(**more: Any) -> AsyncIterator[dict[str, Any]]:
    yield {"model_name": MODEL, "inputs": triton_inputs(**FLAGS), **more}


async def read_on(call: AsyncIterator[Any]) -> None:
    async for _ in call:
        pass


async def test_the_asyncio_client_streams(server: RuntimeServer, stub: Stub) -> None:
    async with triton_aio.InferenceServerClient(server.address) as client:
        pieces, errors = [], []
        async for result, error in client.stream_infer(asked(request_id="7")):
            errors.append(error)
            pieces.append(text_of(result.get_response()))
    assert set(errors) == {None}
    assert "".join(pieces) == text_of(stub.ModelInfer(request()))


async def test_the_asyncio_client_cancels(server: RuntimeServer) -> None:
    async with triton_aio.InferenceServerClient(server.address) as client:
        call = client.stream_infer(asked(inputs=triton_inputs(PROMPT, EVERLASTING, **FLAGS)))
        await anext(call)
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await read_on(call)
    await asyncio.to_thread(server.wait_until_idle)


async def test_a_hundred_calls_run_at_once(server: RuntimeServer) -> None:
    async def one(stub: pb_grpc.GRPCInferenceServiceAsyncStub, name: str) -> dict[str, str]:
        call = stub.ModelStreamInfer(iter([streamed(f"{name} {half}", id=f"{name}{half}") for half in "ab"]))
        return {id: answer.text for id, answer in answers([message async for message in call]).items()}

    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        with server.frozen_rank():
            tasks = [asyncio.create_task(one(stub, str(number))) for number in range(100)]
            await stub.ServerLive(pb.ServerLiveRequest())
        found = [await task for task in tasks]
    assert [sorted(each) for each in found] == [[f"{number}a", f"{number}b"] for number in range(100)]
    assert all(text for each in found for text in each.values())
    await asyncio.to_thread(server.wait_until_idle)


def test_more_requests_than_may_be_under_way_are_refused_one_by_one(server: RuntimeServer, stub: Stub) -> None:
    """1,024 may be under way at once; the rest is told to come again, and the server goes on."""
    short = {**GREEDY, "max_tokens": 1}
    requests: Requests[pb.ModelInferRequest] = Requests()
    call = stub.ModelStreamInfer(iter(requests))
    with server.frozen_rank():
        for number in range(1030):
            requests.send(streamed(sampling=short, id=str(number)))
        early = [next(call) for _ in range(6)]
    requests.done()
    late = answers(call)
    assert all("requests are under way" in message.error_message for message in early)
    assert all("try again in " in message.error_message for message in early)
    assert len(late) == 1024
    assert {answer.error for answer in late.values()} == {""}
