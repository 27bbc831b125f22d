"""One request is one trace, from whoever called through router and front to its phases; no collector holds it up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from contract.infer_requests import MODEL, PROMPT, request, streamed, text_of
from contract.runtime_server import RuntimeServer, until
from otlp_collector import Client, Collector, SeenSpan, a_collector
from router_parts import a_router, a_slice, free_port, until_held


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """One that whatever is started next sends to, at once."""
    with a_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.port}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield collector


@pytest.fixture
def traced(collector: Collector, tiny_checkpoint: Path, tmp_path: Path) -> Iterator[RuntimeServer]:
    running = RuntimeServer(tiny_checkpoint, tmp_path)
    try:
        yield running.wait_until_ready()
    finally:
        collector.release()
        running.close()


def of(client: Client, collector: Collector, count: int) -> dict[str, SeenSpan]:
    """The client's spans by name, once there are so many."""
    until(lambda: len([span for span in collector.spans if span.trace == client.trace]) >= count, f"{count} spans")
    return {span.name: span for span in collector.spans if span.trace == client.trace}


async def test_a_held_request_is_one_connected_trace(collector: Collector, traced: RuntimeServer) -> None:
    client = Client()
    async with a_router() as router:
        door = free_port()
        router.routes.put(a_slice("m", door=door))
        await router.channel(door).channel_ready()
        sampling = {"temperature": 0, "max_tokens": 8, "ignore_eos": True}
        call = router.stub(door).ModelInfer(request(sampling=sampling), metadata=client.metadata)
        await until_held(router, {"default/m": 1})
        router.routes.put(a_slice("m", pods=[traced.address]))
        await call
        spans = await asyncio.to_thread(of, client, collector, 6)
    whole = spans[f"text_completion {MODEL}"]
    routed = spans["inference.GRPCInferenceService/ModelInfer"]
    assert routed.parent == client.span
    assert spans["hold"].parent == routed.id
    assert whole.parent == routed.id
    assert {spans[name].parent for name in ("queue", "prefill", "decode")} == {whole.id}
    assert (routed.service, whole.service) == ("openmodel-router", "openmodel-runtime")
    assert whole.attributes["gen_ai.usage.output_tokens"] == 8
    assert spans["decode"].events == ["first token"]
    # One after another, inside the whole.
    ordered = [spans[name] for name in ("queue", "prefill", "decode")]
    assert whole.begin <= ordered[0].begin <= ordered[0].end <= ordered[1].end <= ordered[2].end <= whole.end
    assert not any(span.error for span in spans.values())


def test_whoever_is_not_sampled_leaves_no_trace_and_errors_say_what_they_were(
    collector: Collector, traced: RuntimeServer
) -> None:
    unsampled, failing = Client(trace="1" * 32, sampled=False), Client(trace="2" * 32)
    with traced.stub() as stub:
        stub.ModelInfer(request(), metadata=unsampled.metadata)
        with pytest.raises(grpc.RpcError):
            stub.ModelInfer(request(model="nobody"), metadata=failing.metadata)
        (span,) = of(failing, collector, 1).values()
        assert span.error
        assert span.attributes["error.type"] == "NOT_FOUND"
        # Nothing that was asked or answered stands in any span.
        answer = stub.ModelInfer(request(), metadata=Client().metadata)
        told: list[Any] = [value for span in of(Client(), collector, 4).values() for value in span.attributes.values()]
    assert not [span for span in collector.spans if span.trace == unsampled.trace]
    secrets = (PROMPT, text_of(answer))
    assert not [value for value in told if isinstance(value, str) and any(secret in value for secret in secrets)]


def test_what_is_asked_and_answered_is_in_spans_where_that_is_asked_for(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    running = RuntimeServer(tiny_checkpoint, tmp_path)
    unary, stream = Client(trace="3" * 32), Client(trace="4" * 32)
    try:
        with running.wait_until_ready().stub() as stub:
            answer = stub.ModelInfer(request(), metadata=unary.metadata)
            list(stub.ModelStreamInfer(iter([streamed()]), metadata=stream.metadata))
            spans = [of(client, collector, 4)[f"text_completion {MODEL}"] for client in (unary, stream)]
    finally:
        running.close()
    assert {content(span, "input") for span in spans} == {PROMPT}
    assert {content(span, "output") for span in spans} == {text_of(answer)}


def content(span: SeenSpan, which: str) -> str:
    """Of the one message."""
    (message,) = json.loads(span.attributes[f"gen_ai.{which}.messages"])
    (part,) = message["parts"]
    assert message["role"] == {"input": "user", "output": "assistant"}[which]
    return str(part["content"])


def test_a_collector_that_hangs_holds_up_no_request_and_what_is_dropped_is_counted(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    collector.hangs = True
    running = RuntimeServer(tiny_checkpoint, tmp_path)
    try:
        with running.wait_until_ready().stub() as stub:
            for _ in range(20):
                stub.ModelInfer(request())
        dropped = 'otel_sdk_processor_span_processed_total{error_type="queue_full"'
        assert dropped in running.metrics()
    finally:
        collector.release()
        running.close()
