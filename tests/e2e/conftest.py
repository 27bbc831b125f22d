"""The operator in the cluster, models to serve, and namespaces under restricted Pod Security."""

from __future__ import annotations

import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from certificates import Authority, an_authority
from kubectl import Kubectl, condition, wait_until
from kwok import LABEL as PLAYED
from otlp_collector import Collector, a_collector

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = "127.0.0.1:5000"
OPERATOR_NAMESPACE = "openmodel-system"
COLLECTOR = "http://otel-collector.observability.svc:4317"
_VALUES = (
    *("resyncSeconds=5", "autoscaling.scaleDownSeconds=10"),
    *(f"telemetry.otlpEndpoint={COLLECTOR}", "telemetry.sampleRatio=1"),
    *("scaler.tls.secretName=scaler-certificate", "scaler.tls.requireClientCertificate=true"),
)
INSTALL = (str(ROOT / "hack/install"), *(f"--set={value}" for value in _VALUES))
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


@dataclass(frozen=True)
class Operator:
    """The cluster with the operator installed and the test models in its registry."""

    kubectl: Kubectl

    def model(self, namespace: str, name: str, source: str, **spec: Any) -> dict[str, Any]:
        """A manifest with small requests, so that many models fit on the node."""
        return {
            "apiVersion": "openmodel.dev/v1alpha1",
            "kind": "OpenModel",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "model": {"source": source},
                "engine": {"maxModelLen": 256},
                "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}},
                "rollout": {"drainSeconds": 20},
                **spec,
            },
        }

    def get(self, namespace: str, name: str) -> dict[str, Any] | None:
        """The OpenModel."""
        return self.kubectl.get("openmodel", name, namespace)

    def wait_for(self, namespace: str, name: str, kind: str, status: str, reason: str = "") -> dict[str, Any]:
        """Waits for a condition that counts for the present generation."""

        def look() -> dict[str, Any] | None:
            found = self.get(namespace, name)
            if found is None or found.get("status", {}).get("observedGeneration") != found["metadata"]["generation"]:
                return None
            seen = condition(found, kind)
            return found if seen[0] == status and reason in ("", seen[1]) else None

        try:
            return wait_until(f"{kind}={status} {reason} of {name}", look)
        except AssertionError as error:
            described = self.kubectl("describe", "openmodel,pods", "-n", namespace)
            raise AssertionError(f"{error}\n{described}") from None

    def children(self, namespace: str, name: str) -> dict[str, str]:
        """Owned objects and their resourceVersions."""
        kinds = "statefulsets,services,networkpolicies,poddisruptionbudgets"
        items = self.kubectl.list(kinds, namespace, f"openmodel.dev/model={name}")
        return {f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"] for item in items}

    def pods(self, namespace: str, name: str) -> list[dict[str, Any]]:
        """The model's pods."""
        return self.kubectl.list("pods", namespace, f"openmodel.dev/model={name}")


@pytest.fixture(scope="session")
def spans(cluster: Kubectl) -> Iterator[Collector]:
    """What comes of a real OpenTelemetry Collector in the cluster."""
    (node,) = cluster.list("nodes", "", f"!{PLAYED}")
    (address,) = (item["address"] for item in node["status"]["addresses"] if item["type"] == "InternalIP")
    with a_collector(address) as receiver:
        cluster.program(str(ROOT / "hack/collector/install"), f"{address}:{receiver.port}", timeout=1800)
        yield receiver


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whose certificates the external scaler has, and takes."""
    return an_authority(tmp_path_factory.mktemp("authority"))


def a_certificate(authority: Authority, namespace: str, name: str, host: str) -> dict[str, Any]:
    """A Secret with one, as cert-manager writes it."""
    files = authority.issue(authority.folder / name, host)
    data = {key: b64encode((files / key).read_bytes()).decode() for key in ("tls.crt", "tls.key", "ca.crt")}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "data": data}


@pytest.fixture(scope="session")
def operator(cluster: Kubectl, spans: Collector, authority: Authority) -> Operator:
    """Installs the operator as a user would."""
    cluster.program(str(ROOT / "hack/models/push"))
    system: dict[str, Any] = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE}}
    host = f"openmodel-scaler.{OPERATOR_NAMESPACE}.svc"
    cluster.apply(system, a_certificate(authority, OPERATOR_NAMESPACE, "scaler-certificate", host))
    cluster.program(*INSTALL)
    return Operator(cluster)


@pytest.fixture
def new_namespace(operator: Operator) -> Iterator[Callable[[], str]]:
    """Makes namespaces under restricted Pod Security; deletes them at the end."""
    made: list[str] = []

    def make() -> str:
        name = f"test-{uuid.uuid4().hex[:8]}"
        operator.kubectl("create", "namespace", name)
        operator.kubectl("label", "namespace", name, RESTRICTED)
        made.append(name)
        return name

    yield make
    for name in made:
        operator.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def namespace(new_namespace: Callable[[], str]) -> str:
    """One such namespace."""
    return new_namespace()


@pytest.fixture(scope="session")
def push_checkpoint(operator: Operator) -> Callable[[Path, str], str]:
    """Pushes a checkpoint folder as an image and returns its oci:// source."""

    def push(folder: Path, name: str) -> str:
        build = str(ROOT / "hack/images/build.py")
        printed = operator.kubectl.program(str(ROOT / ".venv/bin/python"), build, "model", str(folder), name)
        return "oci://" + printed.strip().partition("=")[2]

    return push


@pytest.fixture(scope="session")
def tiny_source(push_checkpoint: Callable[[Path, str], str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny random model for tests that are not about answers."""
    from checkpoints import write_tiny_mixtral

    return push_checkpoint(readable(write_tiny_mixtral(tmp_path_factory.mktemp("tiny") / "model", seed=3)), "tiny")


def readable(folder: Path) -> Path:
    """Lets the pod's user read what a library wrote for its owner alone."""
    for path in folder.iterdir():
        path.chmod(0o644)
    return folder


def example(name: str, namespace: str) -> dict[str, Any]:
    """A manifest of examples/, as it stands."""
    manifest: dict[str, Any] = yaml.safe_load((ROOT / "examples" / f"{name}.yaml").read_text())
    manifest["metadata"]["namespace"] = namespace
    return manifest
