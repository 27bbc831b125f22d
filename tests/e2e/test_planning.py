"""A model is inspected and planned before anything is started for it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from e2e.conftest import OPERATOR_NAMESPACE, Operator, example
from kubectl import condition, wait_until

pytestmark = pytest.mark.e2e


def test_a_suspended_model_has_a_plan_and_that_is_what_its_pods_then_have(operator: Operator, namespace: str) -> None:
    model = example("smollm2-moe", namespace)
    model["spec"] |= {"suspend": True, "resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "4Gi"}}}
    operator.kubectl.apply(model)
    planned = operator.wait_for(namespace, "smollm2-moe", "Planned", "True", "PlanMade")
    assert condition(planned, "Ready")[:2] == ("False", "Suspended")
    assert operator.pods(namespace, "smollm2-moe") == []
    assert planned["status"]["model"]["parameters"] == 692_036_928
    bill = planned["status"]["plan"]["bytesPerRank"]
    assert sum(bill.values()) == 4 << 30
    operator.kubectl.apply({**model, "spec": {**model["spec"], "suspend": False}})
    operator.wait_for(namespace, "smollm2-moe", "Ready", "True")
    ratios = _actual_over_planned(operator, namespace)
    assert set(ratios) == {"weights", "activations", "kv_cache"}
    for category, ratio in ratios.items():
        assert ratio == pytest.approx(1, abs=0.05), category


def test_what_does_not_fit_asks_for_nothing(operator: Operator, namespace: str) -> None:
    model = example("smollm2-moe", namespace)
    model["spec"]["resources"] = {"limits": {"memory": "1Gi"}}
    operator.kubectl.apply(model)
    told = operator.wait_for(namespace, "smollm2-moe", "Planned", "False", "InsufficientMemory")
    assert condition(told, "Stalled")[:2] == ("True", "InsufficientMemory")
    message = condition(told, "Planned")[2]
    assert re.search(r"a rank needs 1\.3 GiB for weights.* It fits with .*of memory a rank", message)
    assert operator.kubectl.list("statefulsets", namespace) == []
    model["spec"]["resources"] = {"requests": {"cpu": "250m"}, "limits": {"memory": "4Gi"}}
    operator.kubectl.apply(model)
    operator.wait_for(namespace, "smollm2-moe", "Ready", "True")


def test_models_of_one_source_share_an_inspection_and_the_last_takes_it_along(
    operator: Operator, namespace: str, tiny_source: str
) -> None:
    names = ("one", "two")
    for name in names:
        operator.kubectl.apply(operator.model(namespace, name, tiny_source, suspend=True))
    for name in names:
        operator.wait_for(namespace, name, "Planned", "True")
    assert len(operator.kubectl.list("jobs", namespace)) == 1

    def owners() -> list[str]:
        found = operator.kubectl.list("configmaps", namespace, "openmodel.dev/job")
        return [owner["name"] for record in found for owner in record["metadata"]["ownerReferences"]]

    wait_until("both models own the record", lambda: sorted(owners()) == ["one", "two"])
    operator.kubectl("delete", "openmodel", "one", "-n", namespace)
    wait_until("the other one owns it still", lambda: owners() == ["two"])
    operator.kubectl("delete", "openmodel", "two", "-n", namespace)
    wait_until("it is gone", lambda: not owners())


def _actual_over_planned(operator: Operator, namespace: str) -> dict[str, float]:
    lease = operator.kubectl.get("lease", "openmodel-operator", OPERATOR_NAMESPACE)
    assert lease is not None
    pod = operator.kubectl.get("pod", lease["spec"]["holderIdentity"], OPERATOR_NAMESPACE)
    assert pod is not None
    path = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{pod['metadata']['name']}:8080/proxy/metrics"
    found: dict[str, Any] = {}
    for line in operator.kubectl("get", "--raw", path).splitlines():
        if line.startswith("openmodel_operator_plan_actual{") and f'k8s_namespace_name="{namespace}"' in line:
            category = re.search(r'openmodel_memory_category="(\w+)"', line)
            assert category is not None
            found[category[1]] = float(line.rsplit(" ", 1)[1])
    return found
