"""A real model changes while streams run: to what answers alike, to what does not, to what has no room; then it drains.

No call fails in all that, and no answer differs.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from e2e.callers import Caller, traffic
from e2e.conftest import Operator, example
from e2e.test_lifecycle import evict, replaced
from kubectl import condition, wait_until
from openmodel_operator.observed import is_ready

pytestmark = pytest.mark.e2e
NAME = "smollm2"
_PROMPTS = {
    "sea": json.dumps({"text_input": "The sea is", "max_tokens": 64}),
    "chat": json.dumps({"text_input": "Name a sea, a river and a lake.", "max_tokens": 64}),
}


async def test_a_real_model_changes_under_streams(operator: Operator, namespace: str) -> None:
    golden = {"metadata": {"name": "golden", "namespace": namespace}, "data": _PROMPTS}
    operator.kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", **golden})
    manifest = example(NAME, namespace)
    manifest["spec"]["rollout"] = {"drainSeconds": 30, "verify": {"configMap": "golden"}}
    operator.kubectl.apply(manifest)
    first = operator.wait_for(namespace, NAME, "Ready", "True", "Serving")
    assert condition(first, "RolloutVerified")[:2] == ("Unknown", "NothingToCompare")
    caller = Caller.of(operator.kubectl, namespace, NAME)
    async with traffic(caller, 4, 48) as seen:
        await asyncio.to_thread(_change, operator, manifest)
    assert seen.errors == []
    assert len(seen.answers) > 10
    assert len(set(map("".join, seen.answers))) == 1


def _change(operator: Operator, manifest: dict[str, Any]) -> None:
    namespace = manifest["metadata"]["namespace"]

    def change(kind: str, status: str, reason: str = "", **spec: Any) -> dict[str, Any]:
        operator.kubectl.apply({**manifest, "spec": {**manifest["spec"], **spec}})
        return operator.wait_for(namespace, NAME, kind, status, reason)

    alike: dict[str, Any] = {"engine": {"maxNumSeqs": 8}}
    proven = change("RolloutVerified", "True", "Verified", **alike)["status"]["rollout"]
    serving = proven["revision"]
    assert proven["verification"] == {"revision": serving, "passed": 2, "total": 2}
    operator.wait_for(namespace, NAME, "Reconciling", "False")
    wait_until("the old pod's end", lambda: len(operator.pods(namespace, NAME)) == 1)

    other = change("RolloutVerified", "False", "Diverged", engine={"maxNumSeqs": 8, "quantization": "int8"})
    assert condition(other, "Stalled")[:2] == ("True", "Diverged")
    assert (other["status"]["rollout"]["revision"], other["status"]["readyReplicas"]) == (serving, 1)
    assert "position" in other["status"]["rollout"]["verification"]["firstDivergence"]

    small = {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"memory": "256Mi"}}
    roomless = change("Stalled", "True", "InsufficientMemory", **alike, resources=small)
    assert (roomless["status"]["rollout"]["revision"], roomless["status"]["readyReplicas"]) == (serving, 1)

    change("Reconciling", "False", **alike)
    operator.kubectl("scale", f"om/{NAME}", "-n", namespace, "--replicas=2")
    operator.wait_for(namespace, NAME, "Reconciling", "False")
    # Not one of the revision that diverged, which may still be on its way out.
    pod = next(
        pod for pod in operator.pods(namespace, NAME) if is_ready(pod) and "deletionTimestamp" not in pod["metadata"]
    )["metadata"]
    evict(operator, namespace, pod["name"])
    wait_until("another pod", lambda: replaced(operator, namespace, pod["name"], pod["uid"]))
    assert operator.wait_for(namespace, NAME, "Reconciling", "False")["status"]["readyReplicas"] == 2
