"""One apply, Ready, tokens: the whole path with real models in real pods."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from e2e.conftest import OPERATOR_NAMESPACE, Operator, example
from kubectl import KubectlError, wait_until
from model_client import stream
from port_forward import port_forward

pytestmark = pytest.mark.e2e

# Runs in a pod with the operator's image: the proof of Ready, through the Service's name.
_CLIENT = """
import asyncio, sys
from openmodel_operator.probe import prove
proof = asyncio.run(prove(sys.argv[1], sys.argv[2], ""))
print(proof)
sys.exit(0 if proof.ok else 1)
"""


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("smollm2", "LlamaForCausalLM"),
        ("smollm2-to-zero", "LlamaForCausalLM"),
        ("smollm2-moe", "MixtralForCausalLM"),
    ],
)
def test_the_examples_become_ready_and_answer(
    operator: Operator, namespace: str, monkeypatch: pytest.MonkeyPatch, name: str, architecture: str
) -> None:
    operator.kubectl.apply(example(name, namespace))
    model = operator.wait_for(namespace, name, "Ready", "True", "Serving")
    status = model["status"]
    assert status["model"]["architecture"] == architecture
    assert status["model"]["license"] == "apache-2.0"
    assert status["endpoint"] == f"grpc://{name}.{namespace}.svc:8001"
    assert set(status["coldStart"]) == {"scheduled", "mount", "load", "firstToken"}
    events = [item for item in operator.kubectl.list("events", namespace) if item["involvedObject"]["name"] == name]
    assert {"Starting", "Serving"} <= {event["reason"] for event in events}
    for key, value in operator.kubectl.env.items():
        monkeypatch.setenv(key, value)
    with port_forward(namespace, f"service/{name}") as address:
        # The answer's every token is likelier than the next by far: it is the same on every processor.
        question = [{"role": "user", "content": "What is the opposite of hot?"}]
        pieces = list(stream(address, name, question, temperature=0, max_tokens=32))
    assert "cold" in "".join(piece.text for piece in pieces)
    assert len(pieces) > 4
    assert pieces[-1].finish_reason in ("stop", "length")


def test_a_pod_reaches_it_by_the_services_name(operator: Operator, namespace: str, tiny_source: str) -> None:
    operator.kubectl.apply(operator.model(namespace, "tiny", tiny_source))
    operator.wait_for(namespace, "tiny", "Ready", "True")
    run_client(operator, namespace, "client", f"tiny.{namespace}.svc", "tiny")
    phase = wait_until(
        "the client's end",
        lambda: finished(operator.kubectl.get("pod", "client", namespace)),
    )
    assert phase == "Succeeded", operator.kubectl("logs", "client", "-n", namespace)


def test_two_namespaces_may_use_one_name(
    operator: Operator, new_namespace: Callable[[], str], tiny_source: str
) -> None:
    namespaces = [new_namespace(), new_namespace()]
    for namespace in namespaces:
        operator.kubectl.apply(operator.model(namespace, "same", tiny_source))
    for namespace in namespaces:
        operator.wait_for(namespace, "same", "Ready", "True")


def test_nobody_but_the_user_writes_metadata_and_spec(operator: Operator, namespace: str, tiny_source: str) -> None:
    operator.kubectl.apply(operator.model(namespace, "tiny", tiny_source))
    operator.wait_for(namespace, "tiny", "Ready", "True")
    printed = operator.kubectl("get", "om", "tiny", "-n", namespace, "-o", "json", "--show-managed-fields")

    metadata = json.loads(printed)["metadata"]
    assert "finalizers" not in metadata
    assert set(metadata["annotations"]) == {"kubectl.kubernetes.io/last-applied-configuration"}
    for entry in metadata["managedFields"]:
        if entry["manager"].startswith("openmodel"):
            assert entry["subresource"] == "status"
            assert set(entry["fieldsV1"]) == {"f:status"}


def test_pods_reach_neither_the_api_server_nor_each_others_inside(
    operator: Operator, namespace: str, tiny_source: str
) -> None:
    operator.kubectl.apply(operator.model(namespace, "tiny", tiny_source))
    operator.wait_for(namespace, "tiny", "Ready", "True")
    pod = operator.pods(namespace, "tiny")[0]["metadata"]["name"]
    code = "import socket; socket.create_connection(('kubernetes.default.svc', 443), timeout=3)"
    with pytest.raises(KubectlError, match=r"TimeoutError|timed out|refused"):
        operator.kubectl("exec", "-n", namespace, pod, "--", "python3", "-c", code)


def run_client(operator: Operator, namespace: str, name: str, host: str, model: str) -> None:
    """A pod that asks the model for one token by DNS name."""
    image = operator.kubectl(
        "get", "deploy", "openmodel-operator", "-n", OPERATOR_NAMESPACE,
        "-o", "jsonpath={.spec.template.spec.containers[0].image}",
    )  # fmt: skip
    operator.kubectl.apply(client_pod(namespace, name, image, [host, model]))


def client_pod(namespace: str, name: str, image: str, arguments: list[str], script: str = _CLIENT) -> dict[str, Any]:
    """A restricted pod that runs a script with the operator's packages."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "client",
                    "image": image,
                    "command": ["python3", "-c", script, *arguments],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }


def finished(pod: dict[str, Any] | None) -> str | None:
    """The phase of a pod that has ended."""
    phase = (pod or {}).get("status", {}).get("phase")
    return phase if phase in ("Succeeded", "Failed") else None


def test_the_release_passes_its_own_test(operator: Operator) -> None:
    said = operator.kubectl.program("helm", "test", "openmodel", "--namespace", OPERATOR_NAMESPACE, "--timeout", "2m")
    assert "Succeeded" in said
