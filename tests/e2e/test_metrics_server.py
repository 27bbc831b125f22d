"""An ordinary HorizontalPodAutoscaler, which knows nothing of OpenModel but its scale subresource."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from e2e.callers import Caller, traffic
from e2e.conftest import ROOT, Operator
from e2e.test_scaling import until
from kubectl import Kubectl

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="session")
def metrics_server(cluster: Kubectl, operator: Operator) -> Kubectl:
    """Real metrics-server in the cluster."""
    cluster.program(str(ROOT / "hack/metrics-server/install"), timeout=1800)
    return cluster


def a_cpu_autoscaler(namespace: str, name: str) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": 100}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": "openmodel.dev/v1alpha1", "kind": "OpenModel", "name": name},
            "minReplicas": 1,
            "maxReplicas": 2,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    }


async def test_an_hpa_scales_a_model_by_its_pods_cpu(
    metrics_server: Kubectl, operator: Operator, namespace: str, tiny_source: str
) -> None:
    operator.kubectl.apply(operator.model(namespace, "tiny", tiny_source, engine={"maxModelLen": 512}))
    operator.wait_for(namespace, "tiny", "Ready", "True")
    metrics_server.apply(a_cpu_autoscaler(namespace, "tiny"))
    caller = Caller.of(operator.kubectl, namespace, "tiny")
    async with traffic(caller, 2, 400) as seen:
        await until("a second group serves", partial(serving, operator, namespace, 2))
    assert not seen.errors
    (hpa,) = metrics_server.list("hpa", namespace)
    assert {item["type"]: item["status"] for item in hpa["status"]["conditions"]}["ScalingActive"] == "True"
    # One pod of each group counts: what the selector in status says.
    assert hpa["status"]["currentMetrics"][0]["resource"]["current"]["averageUtilization"] > 0


def serving(operator: Operator, namespace: str, groups: int) -> bool:
    found = operator.get(namespace, "tiny")
    return found is not None and bool(found["status"]["readyReplicas"] == groups)
