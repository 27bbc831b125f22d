"""Through a real OpenTelemetry Collector: a request is one trace, and what operators and runtimes count arrives."""

from __future__ import annotations

import json
import urllib.request
import uuid
from functools import partial

import pytest

from e2e.conftest import COLLECTOR, Operator
from e2e.test_scaling import apply_asleep, until
from kubectl import condition
from otlp_collector import Client, Collector, SeenSpan

pytestmark = pytest.mark.e2e
TEXT = "The lighthouse keeper said"


def of_trace(spans: Collector, trace: str) -> dict[str, SeenSpan]:
    return {span.name: span for span in spans.spans if span.trace == trace}


async def test_a_request_that_waits_for_its_model_is_one_trace(
    operator: Operator, spans: Collector, namespace: str, tiny_source: str
) -> None:
    told = {"otlpEndpoint": COLLECTOR, "captureContent": True}
    caller = apply_asleep(operator, namespace, tiny_source, "tiny", telemetry=told)["tiny"]
    client = Client(trace=uuid.uuid4().hex)
    answer = await caller.complete(TEXT, metadata=client.metadata)
    expected = {
        "inference.GRPCInferenceService/ModelInfer",
        "hold",
        "text_completion tiny",
        "queue",
        "prefill",
        "decode",
    }
    await until("its spans", lambda: of_trace(spans, client.trace).keys() >= expected)
    seen = of_trace(spans, client.trace)
    assert seen.keys() == expected
    assert {span.parent for span in seen.values()} <= {client.span, *(span.id for span in seen.values())}
    assert seen["inference.GRPCInferenceService/ModelInfer"].parent == client.span
    assert {span.service for span in seen.values()} == {"openmodel-router", "openmodel-runtime"}
    # What was asked and answered is told where that was asked for, by the runtime alone, and the status says so.
    whole = seen["text_completion tiny"]
    assert json.loads(whole.attributes["gen_ai.input.messages"])[0]["parts"][0]["content"] == TEXT
    assert json.loads(whole.attributes["gen_ai.output.messages"])[0]["parts"][0]["content"] == answer
    said = [name for name, span in seen.items() if TEXT in json.dumps(span.attributes)]
    assert said == [whole.name]
    assert condition(operator.get(namespace, "tiny"), "Admitted")[:2] == ("True", "ContentCaptured")
    warned = {event["reason"] for event in operator.kubectl.list("events", namespace) if event["type"] == "Warning"}
    assert "ContentCaptured" in warned
    await until("the operator's spans", partial(woken, spans, namespace))
    # A pod that goes to sleep tells what it has counted.
    (pod,) = operator.kubectl.list("pods", "observability", "app=otel-collector")
    address = f"http://{pod['status']['podIP']}:8889/metrics"

    def counted() -> bool:
        with urllib.request.urlopen(address) as answer:
            lines = [line for line in answer.read().decode().splitlines() if namespace in line]
        return any(line.startswith("gen_ai_server_request_duration_seconds_count") for line in lines)

    await until("the runtime's metrics", counted)


def woken(spans: Collector, namespace: str) -> bool:
    """Whether the operator has told that it woke the model, and why."""
    return any(
        span.name == "scale"
        and span.attributes["k8s.namespace.name"] == namespace
        and (span.attributes["openmodel.scaling.from"], span.attributes["openmodel.scaling.to"]) == (0, 1)
        for span in spans.spans
    )
