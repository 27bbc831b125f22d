"""A model that is scaled by its load, looked at by the controller: from zero, up and to zero."""

from __future__ import annotations

from typing import Any

import pytest

from factories import a_load
from kube_double import KEY, DictionaryKube, Prover, controller
from openmodel_operator.controller import Controller
from openmodel_operator.kube import KubeError
from openmodel_operator.scaling.decision import Tempo
from openmodel_operator.scaling.load import PodLoad

SCALED: dict[str, Any] = {"autoscaling": {"minReplicas": 0, "maxReplicas": 3, "idleSeconds": 60}}


class Pods:
    """What they say."""

    def __init__(self, **load: Any) -> None:
        self.load: PodLoad | None = a_load(**load)

    async def __call__(self, address: str) -> PodLoad | None:
        return self.load


def route(kube: DictionaryKube) -> tuple[list[str], int, str]:
    """Where calls go while there is no pod."""
    slice_ = kube.objects["EndpointSlice", "mixtral-router"]
    addresses = [address for endpoint in slice_["endpoints"] for address in endpoint["addresses"]]
    return addresses, slice_["ports"][0]["port"], slice_["metadata"]["annotations"]["openmodel.dev/answers"]


def replicas(kube: DictionaryKube) -> int:
    assert kube.model is not None
    return int(kube.model["spec"].get("replicas", 1))


def scaling(kube: DictionaryKube) -> dict[str, Any]:
    assert kube.model is not None
    return dict(kube.model["status"]["scaling"])


async def served_and_idle(kube: DictionaryKube, pods: Pods) -> Controller:
    """Who looks at the model, which has served and is called no more."""
    subject = controller(kube, Prover(), ask_load=pods)
    await subject.reconcile(KEY)
    kube.run_pod()
    for _ in range(2):
        await subject.reconcile(KEY)
    pods.load = a_load(idle_seconds=61.0)
    return subject


async def test_from_the_first_start_to_zero_and_back_for_a_call() -> None:
    kube, pods, held = DictionaryKube(**SCALED), Pods(under_way=1), 0
    subject = controller(kube, Prover(), ask_load=pods, held=lambda _: held)
    await subject.reconcile(KEY)
    # Nothing serves yet: calls wait at the routers.
    assert route(kube) == (["10.0.0.9"], 10000, "false")
    kube.run_pod()
    await subject.reconcile(KEY)
    assert kube.ready() == ("True", "Serving")
    await subject.reconcile(KEY)
    assert route(kube) == ([], 10000, "true")
    assert kube.condition("Scaling") == ("True", "Autoscaled")
    assert KEY in subject.scaled

    pods.load = a_load(idle_seconds=61.0)
    await subject.reconcile(KEY)
    assert replicas(kube) == 0
    assert not [name for kind, name in kube.objects if kind == "StatefulSet"]
    # In the same look, before the pods went.
    assert route(kube) == (["10.0.0.9"], 10000, "true")
    assert [event["reason"] for event in kube.events][-1] == "ScaledToZero"
    assert "ScaledDown" in [event["reason"] for event in kube.events]
    kube.pods = []
    await subject.reconcile(KEY)
    assert kube.ready() == ("True", "ScaledToZero")
    assert KEY not in subject.scaled
    assert scaling(kube)["desired"] == 0
    assert scaling(kube)["history"][-1]["reason"] == "no request for 60 s"

    held = 2
    await subject.reconcile(KEY)
    assert replicas(kube) == 1
    assert [name for kind, name in kube.objects if kind == "StatefulSet"]
    assert scaling(kube)["reason"] == "2 calls wait for the model"
    held = 0
    kube.run_pod()
    pods.load = a_load(under_way=2)
    await subject.reconcile(KEY)
    assert route(kube) == ([], 10000, "true")
    assert kube.ready() == ("True", "Serving")


async def test_a_count_that_was_written_meanwhile_is_looked_at_anew_and_not_overwritten() -> None:
    kube, pods = DictionaryKube(**SCALED), Pods(under_way=1)
    subject = controller(kube, Prover(), ask_load=pods)
    await subject.reconcile(KEY)
    kube.run_pod()
    await subject.reconcile(KEY)

    async def somebody_is_faster(address: str) -> PodLoad | None:
        assert kube.model is not None
        await DictionaryKube.scale(kube, kube.model, 2)
        return a_load(idle_seconds=61.0)

    subject = controller(kube, Prover(), ask_load=somebody_is_faster)
    await subject.reconcile(KEY)
    assert replicas(kube) == 2


async def test_a_model_that_nobody_scales_fails_calls_at_once_while_it_is_at_zero() -> None:
    kube = DictionaryKube(**SCALED)
    subject = controller(kube, Prover())
    await subject.reconcile(KEY)
    assert ("EndpointSlice", "mixtral-router") in kube.objects
    assert kube.model is not None
    del kube.model["spec"]["autoscaling"]
    await subject.reconcile(KEY)
    assert ("EndpointSlice", "mixtral-router") not in kube.objects
    assert kube.condition("Scaling") == ("True", "AsAsked")
    assert "scaling" not in kube.model["status"]


async def test_load_calls_for_another_group() -> None:
    kube, pods = DictionaryKube(**SCALED), Pods(waiting=5, waiting_tokens=9000, under_way=5)
    subject = controller(kube, Prover(), ask_load=pods, tempo=Tempo(up=0.0, up_pause=0.0))
    await subject.reconcile(KEY)
    kube.run_pod()
    # One look proves it, and two have to see the load.
    for _ in range(3):
        await subject.reconcile(KEY)
    assert replicas(kube) == 2
    assert len([name for kind, name in kube.objects if kind == "StatefulSet"]) == 2
    (event,) = [event for event in kube.events if event["reason"] == "ScaledUp"]
    assert event["message"].startswith("from 1 to 2 groups: 9000 tokens of prompts wait at each rank (target 4096")


async def test_a_count_of_zero_is_not_taken_back_while_groups_are_kept_from_going() -> None:
    kube, pods = DictionaryKube(**SCALED, rollout={"paused": False}), Pods(under_way=1)
    subject = await served_and_idle(kube, pods)
    assert kube.model is not None
    # A new revision waits, and the one that serves stays as it is.
    kube.model["spec"] |= {"engine": {"maxModelLen": 128}, "rollout": {"paused": True}}
    for _ in range(5):
        await subject.reconcile(KEY)
    assert replicas(kube) == 0
    assert [item["to"] for item in scaling(kube)["history"]] == [0]


async def test_what_was_written_here_is_ours_though_the_status_did_not_come_to_say_so() -> None:
    kube, pods = DictionaryKube(**SCALED), Pods(under_way=1)
    subject = await served_and_idle(kube, pods)
    kube.refusal = KubeError(500, "away")
    with pytest.raises(KubeError):
        await subject.reconcile(KEY)
    kube.refusal = None
    assert replicas(kube) == 0
    await subject.reconcile(KEY)
    assert replicas(kube) == 0
    assert "somebody else" not in str(scaling(kube))


async def test_calls_of_a_model_whose_spec_is_refused_still_go_to_the_routers_that_there_are() -> None:
    kube = DictionaryKube(**SCALED)
    subject = controller(kube, Prover())
    await subject.reconcile(KEY)
    assert kube.model is not None
    kube.model["spec"]["access"] = {"tokensPerMinute": 1}
    kube.routers = ["10.0.0.8"]
    await subject.reconcile(KEY)
    assert kube.ready() == ("False", "UnsupportedField")
    assert route(kube)[0] == ["10.0.0.8"]


async def test_the_slice_has_the_family_of_the_service_for_life() -> None:
    kube = DictionaryKube(**SCALED)
    kube.routers = ["10.0.0.9", "fd00::9"]
    subject = controller(kube, Prover())
    await subject.reconcile(KEY)
    assert route(kube)[0] == ["10.0.0.9"]
    kube.objects["EndpointSlice", "mixtral-router"]["addressType"] = "IPv6"
    await subject.reconcile(KEY)
    assert route(kube)[0] == ["fd00::9"]
    assert kube.objects["EndpointSlice", "mixtral-router"]["addressType"] == "IPv6"
