"""A model whose count KEDA and an HPA write: woken for a call, up and down with its load, nothing of Git touched."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from certificates import Authority
from e2e.callers import Caller, traffic
from e2e.conftest import ROOT, Operator, a_certificate
from e2e.test_scaling import until
from kubectl import Kubectl

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="session")
def keda(cluster: Kubectl, operator: Operator) -> Kubectl:
    """Real KEDA in the cluster."""
    cluster.program(str(ROOT / "hack/keda/install"), timeout=1800)
    return cluster


def a_scaled_object(namespace: str, name: str) -> dict[str, Any]:
    down = {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 4, "periodSeconds": 1}]}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": "openmodel.dev/v1alpha1", "kind": "OpenModel", "name": name},
            "pollingInterval": 3,
            "cooldownPeriod": 3,
            "minReplicaCount": 0,
            "maxReplicaCount": 2,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": down}}},
            "triggers": [
                {
                    "type": "external-push",
                    "metadata": {
                        "scalerAddress": "openmodel-scaler.openmodel-system.svc:9090",
                        "model": name,
                        "idleSeconds": "5",
                    },
                    "authenticationRef": {"name": "scaler"},
                }
            ],
        },
    }


def how_to_ask(namespace: str, authority: Authority) -> tuple[dict[str, Any], dict[str, Any]]:
    """KEDA's certificate, and which one the scaler must have."""
    files = {"caCert": "ca.crt", "tlsClientCert": "tls.crt", "tlsClientKey": "tls.key"}
    targets = [{"parameter": parameter, "name": "keda", "key": key} for parameter, key in files.items()]
    authentication = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "TriggerAuthentication",
        "metadata": {"name": "scaler", "namespace": namespace},
        "spec": {"secretTargetRef": targets},
    }
    return a_certificate(authority, namespace, "keda", "keda"), authentication


def git(operator: Operator, manifest: dict[str, Any]) -> None:
    """What a GitOps tool does, again and again."""
    operator.kubectl("apply", "--server-side", "--field-manager=git", "-f", "-", stdin=json.dumps(manifest))


async def test_keda_and_its_hpa_scale_a_model_from_zero_to_two_and_back(
    keda: Kubectl, operator: Operator, authority: Authority, namespace: str, tiny_source: str
) -> None:
    engine = {"maxModelLen": 512, "maxNumSeqs": 2}
    model = operator.model(namespace, "tiny", tiny_source, engine=engine, access={"router": "WhenCold"})
    git(operator, model)
    operator.wait_for(namespace, "tiny", "Ready", "True")
    keda.apply(*how_to_ask(namespace, authority), a_scaled_object(namespace, "tiny"))

    def count() -> int:
        found = operator.get(namespace, "tiny")
        assert found is not None
        return int(found["spec"]["replicas"])

    def serving(groups: int) -> bool:
        found = operator.get(namespace, "tiny")
        assert found is not None
        return bool(found["spec"]["replicas"] == found["status"]["readyReplicas"] == groups)

    await until("nobody calls, so there is nothing", partial(serving, 0))
    await until("no pods", lambda: not operator.pods(namespace, "tiny"))
    caller = Caller.of(keda, namespace, "tiny")
    # A push, not a poll: the call waits for the start alone.
    await caller.complete()
    assert count() == 1
    async with traffic(caller, 1, 400) as calm:
        async with traffic(caller, 6, 400) as busy:
            await until("two groups", partial(serving, 2))
            git(operator, model)
            assert count() == 2
            (hpa,) = keda.list("hpa", namespace)
            conditions = {item["type"]: item["status"] for item in hpa["status"]["conditions"]}
            assert conditions["ScalingActive"] == "True"
        await until("one group", partial(serving, 1))
    assert calm.errors == busy.errors == []
    await until("nothing again", partial(serving, 0))
    found = operator.get(namespace, "tiny")
    assert found is not None
    assert {key: value for key, value in found["spec"].items() if key != "replicas"} == model["spec"]
