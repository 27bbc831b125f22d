"""The controller's one look, against an API server that is a dictionary."""

from __future__ import annotations

import pytest

from factories import IDENTITY, a_report
from kube_double import KEY, DictionaryKube, Prover, controller
from openmodel_operator.group_report import GroupReport
from openmodel_operator.kube import KubeError


async def test_from_nothing_to_serving() -> None:
    kube, prover = DictionaryKube(), Prover()
    subject = controller(kube, prover)
    await subject.reconcile(KEY)
    assert kube.ready() == ("False", "Starting")
    assert len(kube.objects) == 3
    kube.run_pod()
    await subject.reconcile(KEY)
    assert kube.ready() == ("True", "Serving")
    assert [event["reason"] for event in kube.events] == ["Starting", "Serving"]


async def test_a_proof_is_asked_for_once_in_a_pods_life_and_again_after_a_failure_or_restart() -> None:
    kube, prover = DictionaryKube(), Prover()
    subject = controller(kube, prover)
    await subject.reconcile(KEY)
    kube.run_pod()
    prover.ok = False
    await subject.reconcile(KEY)
    assert kube.ready() == ("False", "ProbeFailed")
    prover.ok = True
    for _ in range(3):
        await subject.reconcile(KEY)
    assert len(prover.asked) == 2
    kube.run_pod(restarts=1)
    await subject.reconcile(KEY)
    assert len(prover.asked) == 3


async def test_a_pod_that_only_bears_our_labels_does_not_count() -> None:
    kube, prover = DictionaryKube(), Prover()
    subject = controller(kube, prover)
    await subject.reconcile(KEY)
    pod = kube.run_pod()
    del pod["metadata"]["ownerReferences"]
    del pod["metadata"]["labels"]["openmodel.dev/revision"]
    await subject.reconcile(KEY)
    assert prover.asked == []
    assert kube.ready() == ("False", "Starting")


async def test_what_the_api_server_refuses_is_told_and_what_it_can_not_answer_is_tried_again() -> None:
    kube = DictionaryKube()
    subject = controller(kube, Prover())
    for error in (KubeError(422, "invalid"), KubeError(403, "quota"), KubeError(500, "field not declared in schema")):
        kube.refusal = error
        await subject.reconcile(KEY)
        assert kube.ready() == ("False", "ApplyRejected")
    kube.refusal = KubeError(0, "connection refused")
    with pytest.raises(KubeError):
        await subject.reconcile(KEY)


@pytest.mark.parametrize("kind", ["Service", "NetworkPolicy", "PodDisruptionBudget"])
async def test_a_foreign_object_of_a_childs_name_is_left_alone(kind: str) -> None:
    kube = DictionaryKube()
    foreign = {"metadata": {"name": IDENTITY.name, "uid": "theirs"}}
    kube.objects[kind, IDENTITY.name] = foreign
    await controller(kube, Prover()).reconcile(KEY)
    assert kube.ready() == ("False", "NameTaken")
    assert kube.objects[kind, IDENTITY.name] == foreign
    assert "StatefulSet" not in {made for made, _ in kube.objects}


async def test_a_refused_field_builds_nothing() -> None:
    kube = DictionaryKube(access={"tokensPerMinute": 2})
    await controller(kube, Prover()).reconcile(KEY)
    assert kube.ready() == ("False", "UnsupportedField")
    assert kube.objects == {}


async def test_a_model_that_is_gone_or_going_is_left_to_the_garbage_collector() -> None:
    kube = DictionaryKube()
    subject = controller(kube, Prover())
    assert kube.model is not None
    kube.model["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    await subject.reconcile(KEY)
    kube.model = None
    await subject.reconcile(KEY)
    assert kube.objects == {}


async def test_a_group_that_shares_experts_says_itself_whether_it_serves_them() -> None:
    kube, prover = DictionaryKube(parallelism={"expert": 2}), Prover()
    report, asked = a_report(experts=0), list[str]()

    async def ask(address: str) -> GroupReport | None:
        asked.append(address)
        return report

    subject = controller(kube, prover, ask)
    await subject.reconcile(KEY)
    kube.run_pod()
    await subject.reconcile(KEY)
    assert kube.condition("ExpertCoverage") == ("True", "AllExpertsServed")
    report = a_report(imbalance=1.26)
    await subject.reconcile(KEY)
    assert kube.model is not None
    assert kube.model["status"]["plan"]["survives"] == {"processLoss": 2, "podLoss": 1}
    assert kube.model["status"]["experts"] == {"imbalance": 1.3}
    report = a_report(ranks=1, missing_experts=4)
    kube.run_pod(ready=False)
    await subject.reconcile(KEY)
    assert kube.condition("ExpertCoverage") == ("False", "ExpertsMissing")
    assert kube.ready() == ("False", "ExpertsMissing")
    assert set(asked) == {"10.0.0.1"}


async def test_a_group_keeps_its_pods_when_fewer_could_not_hold_all_experts() -> None:
    kube = DictionaryKube(parallelism={"expert": 4})

    async def ask(address: str) -> GroupReport | None:
        return a_report()

    subject = controller(kube, Prover(), ask)
    await subject.reconcile(KEY)
    kube.run_pod()
    await subject.reconcile(KEY)
    assert kube.model is not None
    kube.model["spec"]["parallelism"]["expert"] = 1
    await subject.reconcile(KEY)
    assert kube.condition("Planned") == ("False", "InsufficientMemory")
    (group,) = [item for (kind, _), item in kube.objects.items() if kind == "StatefulSet"]
    assert group["spec"]["replicas"] == 4
    kube.model["spec"]["parallelism"]["expert"] = 2
    await subject.reconcile(KEY)
    (group,) = [item for (kind, _), item in kube.objects.items() if kind == "StatefulSet"]
    assert group["spec"]["replicas"] == 2
    kube.model["spec"] |= {"parallelism": {"expert": 1}, "suspend": True}
    await subject.reconcile(KEY)
    assert kube.ready() == ("False", "Suspended")
    assert [kind for kind, _ in kube.objects if kind == "StatefulSet"] == []


async def test_a_pod_that_knows_nothing_is_not_believed() -> None:
    kube = DictionaryKube(parallelism={"expert": 2})

    async def ask(address: str) -> GroupReport | None:
        return a_report(experts=0) if address == "10.0.0.1" else a_report()

    subject = controller(kube, Prover(), ask)
    await subject.reconcile(KEY)
    first = kube.run_pod(name="a")
    second = kube.run_pod(name="b")
    second["status"]["podIP"] = "10.0.0.2"
    kube.pods = [first, second]
    await subject.reconcile(KEY)
    assert kube.model is not None
    assert kube.model["status"]["plan"]["survives"] == {"processLoss": 2, "podLoss": 1}


async def test_a_service_that_lost_its_label_still_says_what_serves() -> None:
    kube = DictionaryKube()
    subject = controller(kube, Prover())
    await subject.reconcile(KEY)
    kube.run_pod()
    await subject.reconcile(KEY)
    service = kube.objects["Service", IDENTITY.name]
    serving = dict(service["spec"]["selector"])
    labels = {key: value for key, value in service["metadata"]["labels"].items() if key != "openmodel.dev/model"}
    kube.objects["Service", IDENTITY.name] = {**service, "metadata": {**service["metadata"], "labels": labels}}
    kube.pods = []
    await subject.reconcile(KEY)
    assert kube.objects["Service", IDENTITY.name]["spec"]["selector"] == serving
