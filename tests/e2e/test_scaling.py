"""Models that cost nothing while nobody calls: woken by calls that wait, scaled by their load, to zero and back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import pytest

from e2e.callers import Caller, traffic
from e2e.conftest import OPERATOR_NAMESPACE, Operator
from kubectl import condition, wait_until
from openmodel_operator.observed import is_ready

pytestmark = pytest.mark.e2e

Found = TypeVar("Found")
ROUTERS = "app.kubernetes.io/name=openmodel-router"


async def until(what: str, look: Callable[[], Found | None]) -> Found:
    """`wait_until`, while calls are under way here."""
    return await asyncio.to_thread(wait_until, what, look)


def apply_asleep(operator: Operator, namespace: str, source: str, *names: str, **spec: Any) -> dict[str, Caller]:
    """Models that have answered and gone to sleep, and their callers."""
    spec["autoscaling"] = {"minReplicas": 0, "maxReplicas": 1, "idleSeconds": 2}
    operator.kubectl.apply(*(operator.model(namespace, name, source, **spec) for name in names))
    for name in names:
        operator.wait_for(namespace, name, "Ready", "True", "ScaledToZero")
        wait_until("no pods", partial(lambda name: not operator.pods(namespace, name), name))
    return {name: Caller.of(operator.kubectl, namespace, name) for name in names}


def waiting_pod(operator: Operator, namespace: str, name: str) -> dict[str, Any] | None:
    pods = operator.pods(namespace, name)
    return pods[0] if pods and not is_ready(pods[0]) else None


async def test_calls_wake_models_in_two_namespaces_and_each_reaches_its_own(
    operator: Operator, new_namespace: Callable[[], str], tiny_source: str
) -> None:
    asleep = [
        (namespace, caller)
        for namespace, names in ((new_namespace(), ("one", "two")), (new_namespace(), ("one",)))
        for caller in apply_asleep(operator, namespace, tiny_source, *names).values()
    ]
    # Whoever asks whether it is there does not wake it.
    assert all([await caller.ready() for _, caller in asleep])
    assert not [pod for namespace, caller in asleep for pod in operator.pods(namespace, caller.model)]
    calls = [caller.complete() for _, caller in asleep for _ in range(20)]
    # A model refuses calls by another name: all that are answered were the model's own.
    answers = await asyncio.gather(*calls)
    assert len(set(answers)) == 1
    for namespace, caller in asleep:
        history = operator.wait_for(namespace, caller.model, "Ready", "True")["status"]["scaling"]["history"]
        woken = [item for item in history if (item["from"], item["to"]) == (0, 1)]
        assert len(woken) == 1
        assert "wait" in woken[0]["reason"]
        events = operator.kubectl.list("events", namespace)
        assert {"ScaledUp", "ScaledDown"} <= {event["reason"] for event in events}


async def test_no_call_is_lost_when_its_pod_a_router_or_the_operator_goes_during_a_cold_start(
    operator: Operator, namespace: str, tiny_source: str
) -> None:
    caller = apply_asleep(operator, namespace, tiny_source, "tiny")["tiny"]
    lease = operator.kubectl.get("lease", "openmodel-operator", OPERATOR_NAMESPACE)
    assert lease is not None
    # The leader may still act: its follower finds what it has left.
    operator.kubectl("delete", "pod", lease["spec"]["holderIdentity"], "-n", OPERATOR_NAMESPACE, "--wait=false")
    calls = [asyncio.create_task(caller.complete()) for _ in range(20)]
    pod = await until("a pod starts", partial(waiting_pod, operator, namespace, "tiny"))
    forced = ("--grace-period=0", "--force", "--wait=false")
    operator.kubectl("delete", "pod", pod["metadata"]["name"], "-n", namespace, *forced)
    router = operator.kubectl.list("pods", OPERATOR_NAMESPACE, ROUTERS)[0]["metadata"]["name"]
    operator.kubectl("delete", "pod", router, "-n", OPERATOR_NAMESPACE, "--wait=false")
    answers = await asyncio.gather(*calls)
    assert len(set(answers)) == 1
    operator.kubectl("rollout", "status", "deployment", "-n", OPERATOR_NAMESPACE, "--timeout=120s")


async def test_load_brings_a_group_and_its_end_takes_it_away_without_an_error(
    operator: Operator, namespace: str, tiny_source: str
) -> None:
    scaled = {"minReplicas": 1, "maxReplicas": 2}
    engine = {"maxModelLen": 512, "maxNumSeqs": 2}
    model = operator.model(namespace, "tiny", tiny_source, autoscaling=scaled, engine=engine)
    operator.kubectl.apply(model)
    operator.wait_for(namespace, "tiny", "Ready", "True")
    caller = Caller.of(operator.kubectl, namespace, "tiny")

    def settled(groups: int) -> bool:
        found = operator.get(namespace, "tiny")
        assert found is not None
        at_rest = condition(found, "Reconciling")[0] == "False"
        return at_rest and found["spec"]["replicas"] == found["status"]["readyReplicas"] == groups

    async with traffic(caller, 1, 400) as calm:
        async with traffic(caller, 6, 400) as busy:
            await until("a second group", partial(settled, 2))
        await until("one group", partial(settled, 1))
    assert calm.errors == busy.errors == []
    assert len({tuple(answer) for answer in map("".join, [*calm.answers, *busy.answers])}) == 1
    found = operator.get(namespace, "tiny")
    assert found is not None
    # What was applied is as it was: the count is written through the scale subresource alone.
    assert condition(found, "Scaling")[:2] == ("True", "Autoscaled")
    operator.kubectl.apply(model)
    assert settled(1)


def test_whoever_keeps_undoing_the_count_is_told(operator: Operator, namespace: str, tiny_source: str) -> None:
    scaled = {"minReplicas": 2, "maxReplicas": 2}
    operator.kubectl.apply(operator.model(namespace, "tiny", tiny_source, autoscaling=scaled))

    def undone() -> bool:
        found = operator.get(namespace, "tiny")
        if found is not None and found["spec"]["replicas"] == 2:
            operator.kubectl("scale", "om/tiny", "-n", namespace, "--replicas=1")
        return condition(found, "Scaling")[:2] == ("False", "Contested")

    wait_until("Scaling=False", undone)
    found = operator.get(namespace, "tiny")
    assert "leave it out of what is applied from Git" in condition(found, "Scaling")[2]
