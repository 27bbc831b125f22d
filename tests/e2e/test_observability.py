"""What people look at, against a real Prometheus that scrapes a real run: every dashboard's every query has data."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from dashboards import DASHBOARDS
from e2e.callers import Caller, traffic
from e2e.conftest import OPERATOR_NAMESPACE, ROOT, Operator
from e2e.test_scaling import apply_asleep, until
from kubectl import wait_until

pytestmark = pytest.mark.e2e
# Group settings of the model whose experts are looked at.
SHARED = {"parallelism": {"expert": 2, "ranksPerPod": 2}, "resources": {"requests": {"cpu": "50m", "memory": "512Mi"}}}


@dataclass
class Prometheus:
    """One that runs here, and scrapes what it is told."""

    targets: Path
    port: int

    def scrape(self, *addresses: str) -> None:
        """From now on, these."""
        fresh = self.targets.with_suffix(".new")
        fresh.write_text(json.dumps([{"targets": list(addresses)}]))
        fresh.rename(self.targets)

    def ask(self, path: str, **query: str) -> Any:
        """The data of an answer; AssertionError when it refuses."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url) as answer:
            told = json.load(answer)
        assert told["status"] == "success", told
        return told["data"]

    def has(self, expression: str) -> bool:
        """Whether there is data."""
        return bool(self.ask("query", query=expression)["result"])

    def firing(self) -> set[str]:
        """Alerts that fire."""
        return {alert["labels"]["alertname"] for alert in self.ask("alerts")["alerts"] if alert["state"] == "firing"}


@contextmanager
def a_prometheus(folder: Path, port: int) -> Iterator[Prometheus]:
    """Prometheus with our alerts, which here fire at once."""
    rules = yaml.safe_load((ROOT / "charts/openmodel/alerts.yaml").read_text())
    for rule in rules["groups"][0]["rules"]:
        rule["for"] = "0s"
    (folder / "alerts.yaml").write_text(yaml.safe_dump(rules))
    targets = folder / "targets.json"
    targets.write_text("[]")
    job = {"job_name": "openmodel", "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}]}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "alerts.yaml")],
        "scrape_configs": [job],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    program = subprocess.run([ROOT / "hack/prometheus/get"], check=True, capture_output=True, text=True).stdout.strip()
    command = [
        *(f"{program}/prometheus", f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data"),
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        prometheus = Prometheus(targets, port)
        wait_until("Prometheus answers", lambda: _answers(prometheus))
        yield prometheus
    finally:
        process.terminate()
        process.wait(30)


def _answers(prometheus: Prometheus) -> bool:
    with suppress(OSError):
        return prometheus.ask("status/buildinfo") is not None
    return False


async def test_every_query_has_data_and_an_alert_fires_and_clears(
    operator: Operator, namespace: str, tiny_source: str, tmp_path: Path
) -> None:
    def addresses(where: str, selector: str, port: int) -> list[str]:
        pods = operator.kubectl.list("pods", where, selector)
        return [f"{pod['status']['podIP']}:{port}" for pod in pods if pod["status"].get("podIP")]

    def everybody() -> list[str]:
        ours = addresses(OPERATOR_NAMESPACE, "app.kubernetes.io/part-of=openmodel", 8080)
        return [*ours, *addresses(namespace, "openmodel.dev/model=tiny", 8002)]

    with a_prometheus(tmp_path, 19090) as prometheus:
        caller = apply_asleep(operator, namespace, tiny_source, "tiny", **SHARED)["tiny"]
        prometheus.scrape(*everybody())
        await caller.complete()
        prometheus.scrape(*everybody())
        missing = {query for dashboard in DASHBOARDS for panel in dashboard.panels for query, _ in panel.queries}
        async with traffic(caller, 4, 128) as seen:
            with pytest.raises(grpc.aio.AioRpcError):
                await Caller(caller.address, "nobody").complete()
            deadline = time.monotonic() + 120
            while missing and time.monotonic() < deadline:
                missing -= {query for query in missing if prometheus.has(query.replace("$model", "tiny"))}
                await asyncio.sleep(0.5)
        assert not seen.errors
        assert not missing
        assert "OpenModelNotReady" not in prometheus.firing()
        operator.kubectl.apply(operator.model(namespace, "wrong", tiny_source, access={"tokensPerMinute": 1}))
        await until("an alert fires", lambda: "OpenModelNotReady" in prometheus.firing())
        operator.kubectl("delete", "om", "wrong", "-n", namespace)
        await until("it clears", lambda: "OpenModelNotReady" not in prometheus.firing())
