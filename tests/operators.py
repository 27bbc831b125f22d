"""Operators as processes beside the cluster, to be killed, stopped and looked into."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubectl import Kubectl, condition, wait_until
from kwok import ON_PLAYED_NODES

PROGRAM = Path(__file__).resolve().parent / "operator_process.py"


@dataclass
class OperatorProcess:
    """One candidate."""

    process: subprocess.Popen[bytes]
    metrics_port: int
    log: Path

    def exposition(self) -> str:
        """What it tells Prometheus; "" before it does."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def metric(self, name: str) -> float:
        """Sum of a metric's series; 0 while there are none."""
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", self.exposition(), re.MULTILINE))

    @property
    def leads(self) -> bool:
        """Whether it says so itself."""
        return self.metric("openmodel_operator_leader") == 1

    def requests(self, *, write: bool) -> int:
        """Requests to the API server that change something, or do not; but for its Lease."""
        counted = re.findall(r"^openmodel_operator_api_requests_total{(.*)} (\S+)$", self.exposition(), re.MULTILINE)
        return int(
            sum(
                float(value)
                for labels, value in counted
                if 'kind="Lease"' not in labels and ('method="GET"' not in labels) == write
            )
        )

    def send(self, number: signal.Signals) -> None:
        """Sends a signal; after one that ends it, waits for the end."""
        self.process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.process.wait(30)


@dataclass
class Operators:
    """Candidates for one Lease, in a namespace of its own."""

    kubectl: Kubectl
    namespace: str
    folder: Path
    started: list[OperatorProcess] = field(default_factory=list)

    def start(self, identity: str) -> OperatorProcess:
        """Starts a candidate, and waits until it takes part."""
        ports = [_free_port(), _free_port()]
        log = self.folder / f"{identity}.log"
        command = [sys.executable, str(PROGRAM), self.namespace, identity, *map(str, ports)]
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=dict(self.kubectl.env), stdout=output, stderr=output)
        operator = OperatorProcess(process, ports[0], log)
        self.started.append(operator)
        wait_until(
            f"{identity} tries for the Lease",
            lambda: 'k8s_object_kind="Lease"' in operator.exposition(),
        )
        return operator

    def stop(self) -> None:
        """Ends all that still run."""
        for operator in self.started:
            if operator.process.poll() is None:
                operator.process.send_signal(signal.SIGCONT)
                operator.process.kill()
                operator.process.wait(30)

    def models(self, count: int, namespace: str | None = None, **spec: Any) -> list[str]:
        """Applies models whose pods are played; returns their names."""
        where = namespace or self.namespace
        names = [f"model-{index}" for index in range(count)]
        self.kubectl.apply(*(a_played_model(name, where, **spec) for name in names))
        return names

    def all_ready(self, count: int, namespace: str | None = None) -> None:
        """Waits until so many models are Ready, as they are to be now."""

        def ready() -> bool:
            found = self.kubectl.list("openmodels", namespace or self.namespace)
            return sum(map(_is_ready, found)) == count == len(found)

        wait_until(f"{count} models are Ready", ready)

    def versions(self, kinds: str = "openmodels,statefulsets,services,networkpolicies,poddisruptionbudgets") -> Any:
        """resourceVersions of what there is."""
        items = json.loads(self.kubectl("get", kinds, "-n", self.namespace, "-o", "json"))["items"]
        return {f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"] for item in items}


def a_played_model(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    """An OpenModel whose pods, and the Jobs for it, are played."""
    return {
        "apiVersion": "openmodel.dev/v1alpha1",
        "kind": "OpenModel",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"source": "oci://registry.example/models/mixtral:1"},
            "podTemplate": ON_PLAYED_NODES,
            **spec,
        },
    }


def _is_ready(model: dict[str, Any]) -> bool:
    current = model.get("status", {}).get("observedGeneration") == model["metadata"]["generation"]
    return current and condition(model, "Ready")[0] == "True" and condition(model, "Reconciling")[0] == "False"


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])
