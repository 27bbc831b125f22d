"""The table of metrics, against what Prometheus is told, and against the page that documents it."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from openmodel_operator.metrics import OperatorMetrics
from openmodel_telemetry import metrics as table
from openmodel_telemetry.instrument import Instrument, Kind
from openmodel_telemetry.providers import ENDPOINT, Telemetry

ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def exposed(telemetry: Telemetry) -> Iterator[str]:
    """The address of what Prometheus asks."""
    port = telemetry.serve("127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{port}/metrics"
    finally:
        telemetry.shutdown()


@pytest.fixture(autouse=True)
def _no_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENDPOINT, raising=False)


def text_of(address: str) -> str:
    with urllib.request.urlopen(address) as answer:  # noqa: S310 - of this process
        return str(answer.read().decode())


def record(telemetry: Telemetry, instrument: Instrument) -> None:
    attributes = dict.fromkeys(instrument.attributes, "x")
    match instrument.kind:
        case Kind.COUNTER | Kind.UP_DOWN_COUNTER:
            telemetry.create(instrument).add(1, attributes)
        case Kind.HISTOGRAM:
            telemetry.create(instrument).record(0.5, attributes)
        case Kind.GAUGE:
            telemetry.create(instrument).set(1, attributes)
        case Kind.OBSERVED_GAUGE:
            telemetry.observe(instrument, lambda: [(1, attributes)])


def test_prometheus_has_the_names_labels_and_bounds_that_the_table_says() -> None:
    telemetry = Telemetry("test")
    known = {attribute.name: attribute.prometheus for attribute in table.ATTRIBUTES}
    instruments = (*table.RUNTIME, *table.OPERATOR, *table.ROUTER)
    for instrument in instruments:
        record(telemetry, instrument)
    with exposed(telemetry) as address:
        text = text_of(address)
    for instrument in instruments:
        series = f"{instrument.prometheus}_count" if instrument.kind is Kind.HISTOGRAM else instrument.prometheus
        (labels,) = re.findall(rf"^{series}(?:{{(.*)}})? \S+$", text, re.MULTILINE)
        assert {known[name] for name in instrument.attributes} <= set(re.findall(r"(\w+)=", labels))
        if instrument.buckets:
            assert f"{instrument.prometheus}_bucket{{" in text
            assert text.count(f"{instrument.prometheus}_bucket{{") == len(instrument.buckets) + 1


def test_the_page_is_as_the_table() -> None:
    script = [sys.executable, str(ROOT / "hack/docs/metrics.py"), "--check"]
    assert subprocess.run(script, env={"PYTHONPATH": str(ROOT / "protos")}).returncode == 0


def test_series_grow_with_models_and_with_nothing_else() -> None:
    """Models that are scaled, planned and looked at: more than the SDK takes by itself."""
    telemetry = Telemetry("test")
    metrics = OperatorMetrics(telemetry)
    models = [("ns", f"m{index}") for index in range(1000)]
    categories = dict.fromkeys(("weights", "activations", "failover", "kv_cache"), 1.0)
    metrics.watch_plans(lambda: dict.fromkeys(models, categories))
    metrics.watch_models(lambda: {model: ("False", f"Reason{index % 40}") for index, model in enumerate(models)})
    metrics.watch_leader(lambda: True)
    for model in models:
        for _ in range(3):
            with metrics.reconcile(*model):
                metrics.request("PATCH", "StatefulSet")
        metrics.scaled(*model, 0, 1, "a call waits for the model")
        metrics.started({"scheduled": 1.0, "mount": 1.0, "load": 1.0, "firstToken": 1.0})
    with exposed(telemetry) as address:
        series = [line for line in text_of(address).splitlines() if line.startswith("openmodel_")]
    of_models = [line for line in series if 'openmodel_model="' in line]
    # Of each model four categories and its scalings; of all the rest no more than the table has.
    assert len(of_models) == 1000 * 5
    assert len(series) - len(of_models) < 200


def test_a_change_of_a_count_is_a_span_of_the_look_that_decided_it() -> None:
    telemetry, kept = Telemetry("test"), InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    telemetry.tracer = provider.get_tracer("test")
    metrics = OperatorMetrics(telemetry)
    with metrics.reconcile("ns", "m"):
        metrics.scaled("ns", "m", 0, 1, "a call waits for the model")
    scale, look = kept.get_finished_spans()
    assert (look.name, scale.name) == ("reconcile", "scale")
    assert scale.parent is not None
    assert look.context is not None
    assert scale.parent.span_id == look.context.span_id
    assert dict(scale.attributes or {})["openmodel.reason"] == "a call waits for the model"
    telemetry.shutdown()
