"""Scaling, changing, suspending, deleting; and what dies on the way."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from e2e.conftest import OPERATOR_NAMESPACE, ROOT, Operator
from e2e.test_serving import client_pod, finished
from kubectl import KubectlError, condition, wait_until
from openmodel_operator.observed import is_ready

pytestmark = pytest.mark.e2e

# Runs in a pod: a new connection and one whole request after another until the file says stop, then the count.
_TRAFFIC = """
import asyncio, pathlib, sys
from openmodel_operator.probe import prove
async def main():
    done, failed = 0, []
    while not pathlib.Path("/tmp/stop").exists():
        proof = await prove(sys.argv[1], sys.argv[2], "")
        done += 1
        if not proof.ok:
            failed.append(proof.message)
        print(done, failed, flush=True)
    sys.exit(1 if failed else 0)
asyncio.run(main())
"""


def test_scaling_by_the_scale_subresource(operator: Operator, namespace: str, tiny_source: str) -> None:
    operator.kubectl.apply(operator.model(namespace, "tiny", tiny_source))
    operator.wait_for(namespace, "tiny", "Ready", "True")
    first = operator.pods(namespace, "tiny")[0]["metadata"]["uid"]
    operator.kubectl("scale", "om/tiny", "-n", namespace, "--replicas=2")
    model = operator.wait_for(namespace, "tiny", "Reconciling", "False")
    assert (model["status"]["replicas"], model["status"]["readyReplicas"]) == (2, 2)
    assert first in {pod["metadata"]["uid"] for pod in operator.pods(namespace, "tiny")}
    assert len(operator.kubectl.list("pods", namespace, model["status"]["selector"])) == 2
    operator.kubectl("scale", "om/tiny", "-n", namespace, "--replicas=0")
    operator.wait_for(namespace, "tiny", "Ready", "True", "ScaledToZero")
    wait_until("no pods", lambda: not operator.pods(namespace, "tiny"))
    operator.kubectl("scale", "om/tiny", "-n", namespace, "--replicas=1")
    operator.wait_for(namespace, "tiny", "Ready", "True", "Serving")


def test_a_change_waits_while_it_is_paused_and_then_makes_room_first(
    operator: Operator, namespace: str, tiny_source: str
) -> None:
    model = operator.model(namespace, "tiny", tiny_source)
    operator.kubectl.apply(model)
    before = operator.wait_for(namespace, "tiny", "Ready", "True")["status"]["rollout"]["revision"]
    model["spec"] |= {"engine": {"maxModelLen": 128}, "rollout": {"strategy": "Recreate", "paused": True}}
    operator.kubectl.apply(model)
    paused = operator.wait_for(namespace, "tiny", "Ready", "False", "Paused")
    assert paused["status"]["rollout"]["revision"] == before
    (pod,) = operator.pods(namespace, "tiny")
    assert is_ready(pod)
    model["spec"]["rollout"]["paused"] = False
    operator.kubectl.apply(model)
    after = operator.wait_for(namespace, "tiny", "Ready", "True")["status"]["rollout"]
    assert after["revision"] != before
    assert after["strategy"] == "Recreate"
    wait_until("the old pod is gone", lambda: len(operator.pods(namespace, "tiny")) == 1)


def test_a_model_that_starts_at_zero_is_proven_first(operator: Operator, namespace: str, tiny_source: str) -> None:
    operator.kubectl.apply(operator.model(namespace, "tiny", tiny_source, replicas=0))
    operator.wait_for(namespace, "tiny", "Ready", "True", "ScaledToZero")
    wait_until("no pods", lambda: not operator.pods(namespace, "tiny"))


def test_suspend_takes_the_pods_away_and_back(operator: Operator, namespace: str, tiny_source: str) -> None:
    operator.kubectl.apply(operator.model(namespace, "tiny", tiny_source))
    operator.wait_for(namespace, "tiny", "Ready", "True")
    operator.kubectl("patch", "om/tiny", "-n", namespace, "--type=merge", "-p", '{"spec":{"suspend":true}}')
    model = operator.wait_for(namespace, "tiny", "Ready", "False", "Suspended")
    assert condition(model, "Stalled")[0] == "False"
    wait_until("no pods", lambda: not operator.pods(namespace, "tiny"))
    operator.kubectl("patch", "om/tiny", "-n", namespace, "--type=merge", "-p", '{"spec":{"suspend":false}}')
    operator.wait_for(namespace, "tiny", "Ready", "True")


def test_evictions_take_one_pod_at_a_time_and_lose_no_request(
    operator: Operator, namespace: str, tiny_source: str
) -> None:
    """What `kubectl drain` asks for."""
    operator.kubectl.apply(operator.model(namespace, "tiny", tiny_source, replicas=2))
    operator.wait_for(namespace, "tiny", "Reconciling", "False")
    before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in operator.pods(namespace, "tiny")}
    with traffic(operator, namespace):
        for name in sorted(before):
            evict(operator, namespace, name)
            (other,) = before.keys() - {name}
            with pytest.raises(KubectlError, match="disruption budget"):
                evict(operator, namespace, other)
            wait_until("another pod", partial(replaced, operator, namespace, name, before[name]))
            operator.wait_for(namespace, "tiny", "Reconciling", "False")


def evict(operator: Operator, namespace: str, pod: str) -> None:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    operator.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


def replaced(operator: Operator, namespace: str, name: str, uid: str) -> bool:
    """Whether another pod of that name is ready."""
    pod = operator.kubectl.get("pod", name, namespace)
    return pod is not None and pod["metadata"]["uid"] != uid and is_ready(pod)


@contextmanager
def traffic(operator: Operator, namespace: str) -> Iterator[None]:
    """One request after another through the Service inside; all must be answered."""
    image = operator.kubectl(
        "get", "deploy", "openmodel-operator", "-n", OPERATOR_NAMESPACE,
        "-o", "jsonpath={.spec.template.spec.containers[0].image}",
    )  # fmt: skip
    client = client_pod(namespace, "traffic", image, [f"tiny.{namespace}.svc", "tiny"], _TRAFFIC)
    operator.kubectl.apply(client)
    operator.kubectl("wait", "pod/traffic", "-n", namespace, "--for=condition=Ready", "--timeout=60s")
    wait_until("traffic", lambda: operator.kubectl("logs", "traffic", "-n", namespace), timeout=60)
    yield
    operator.kubectl("exec", "traffic", "-n", namespace, "--", "touch", "/tmp/stop")
    phase = wait_until("the traffic's end", lambda: finished(operator.kubectl.get("pod", "traffic", namespace)))
    last = operator.kubectl("logs", "traffic", "-n", namespace).splitlines()[-1]
    assert phase == "Succeeded", last
    assert int(last.split()[0]) > 10


def test_what_dies_comes_back_and_nothing_is_doubled(operator: Operator, namespace: str, tiny_source: str) -> None:
    # The operator, killed right after the apply.
    operator.kubectl.apply(operator.model(namespace, "tiny", tiny_source))
    operator.kubectl("delete", "pods", "-n", OPERATOR_NAMESPACE, "--all", "--force", "--grace-period=0")
    operator.wait_for(namespace, "tiny", "Ready", "True")
    assert len(operator.children(namespace, "tiny")) == 4
    # The model's pod.
    pod = operator.pods(namespace, "tiny")[0]["metadata"]
    operator.kubectl("delete", "pod", pod["name"], "-n", namespace, "--force", "--grace-period=0")
    wait_until(
        "another pod",
        lambda: [item for item in operator.pods(namespace, "tiny") if item["metadata"]["uid"] != pod["uid"]],
    )
    operator.wait_for(namespace, "tiny", "Ready", "True")
    # The API server.
    subprocess.run([ROOT / "hack/cluster/restart", "kube-apiserver", "--kill"], check=True)
    operator.kubectl("scale", "om/tiny", "-n", namespace, "--replicas=2")
    model = operator.wait_for(namespace, "tiny", "Reconciling", "False")
    assert model["status"]["readyReplicas"] == 2
    assert len(operator.children(namespace, "tiny")) == 5


def test_looking_again_changes_nothing(operator: Operator, namespace: str, tiny_source: str) -> None:
    operator.kubectl.apply(operator.model(namespace, "tiny", tiny_source))
    operator.wait_for(namespace, "tiny", "Reconciling", "False", "Settled")
    before = operator.children(namespace, "tiny")
    version = (operator.get(namespace, "tiny") or {})["metadata"]["resourceVersion"]
    operator.kubectl("rollout", "restart", "deploy/openmodel-operator", "-n", OPERATOR_NAMESPACE)
    operator.kubectl("rollout", "status", "deploy/openmodel-operator", "-n", OPERATOR_NAMESPACE, "--timeout=120s")
    # A second model, ready, means that the new operator has looked at the first one too: it lists before it watches.
    operator.kubectl.apply(operator.model(namespace, "second", tiny_source))
    operator.wait_for(namespace, "second", "Ready", "True")
    assert operator.children(namespace, "tiny") == before
    assert (operator.get(namespace, "tiny") or {})["metadata"]["resourceVersion"] == version


def test_a_child_edited_or_deleted_by_hand_is_mended(operator: Operator, namespace: str, tiny_source: str) -> None:
    operator.kubectl.apply(operator.model(namespace, "tiny", tiny_source))
    operator.wait_for(namespace, "tiny", "Ready", "True")
    operator.kubectl("delete", "service,networkpolicy", "tiny", "-n", namespace)
    wait_until("the Service", lambda: operator.kubectl.get("service", "tiny", namespace))
    wait_until("the NetworkPolicy", lambda: operator.kubectl.get("networkpolicy", "tiny", namespace))
    operator.wait_for(namespace, "tiny", "Ready", "True")


def test_deletion_leaves_nothing(operator: Operator, namespace: str, tiny_source: str) -> None:
    for name in ("one", "two"):
        operator.kubectl.apply(operator.model(namespace, name, tiny_source))
    for name in ("one", "two"):
        operator.wait_for(namespace, name, "Ready", "True")
    operator.kubectl("delete", "om", "--all", "-n", namespace)
    kinds = "pods,services,statefulsets,networkpolicies,poddisruptionbudgets,persistentvolumeclaims,controllerrevisions"
    wait_until("an empty namespace", lambda: not operator.kubectl.list(kinds, namespace, "openmodel.dev/model"))
