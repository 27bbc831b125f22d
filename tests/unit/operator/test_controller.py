"""The controller's one look, against an API server that is a dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from factories import IDENTITY, IMAGE, SOURCE, a_pod, a_report
from openmodel_operator.controller import AskGroup, Controller
from openmodel_operator.group_report import GroupReport
from openmodel_operator.kube import Kube, KubeError
from openmodel_operator.observed import Proof
from openmodel_operator.settings import Settings
from openmodel_operator.spec import Manifest

KEY = (IDENTITY.namespace, IDENTITY.name)


class DictionaryKube:
    """Objects by kind and name; `refusal` is raised by the next apply."""

    def __init__(self, **spec: Any) -> None:
        metadata = {"namespace": IDENTITY.namespace, "name": IDENTITY.name, "uid": IDENTITY.uid, "generation": 1}
        self.model: Manifest | None = {"metadata": metadata, "spec": {"model": {"source": SOURCE}, **spec}}
        self.objects: dict[tuple[str, str], Manifest] = {}
        self.pods: list[Manifest] = []
        self.events: list[Manifest] = []
        self.refusal: KubeError | None = None

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> Manifest | None:
        return self.model if kind == "OpenModel" else self.objects.get((kind, name))

    async def list(
        self, api_version: str, kind: str, namespace: str | None, labels: Mapping[str, str]
    ) -> list[Manifest]:
        if kind == "Pod":
            return self.pods
        return [item for (found, _), item in self.objects.items() if found == kind]

    async def apply(self, manifest: Manifest) -> Manifest:
        if self.refusal is not None:
            raise self.refusal
        name = manifest["metadata"]["name"]
        metadata = {**manifest["metadata"], "uid": f"uid-{manifest['kind']}-{name}"}
        self.objects[manifest["kind"], name] = {**manifest, "metadata": metadata}
        return manifest

    async def delete(self, manifest: Manifest) -> None:
        del self.objects[manifest["kind"], manifest["metadata"]["name"]]

    async def patch_status(self, model: Manifest, patch: Manifest) -> None:
        assert self.model is not None
        merged = {**self.model.get("status", {}), **patch}
        self.model = {**self.model, "status": {key: value for key, value in merged.items() if value is not None}}

    async def create_event(self, event: Manifest) -> None:
        self.events.append(event)

    def run_pod(self, **more: Any) -> Manifest:
        """A ready pod of the StatefulSet that is there."""
        (made,) = [item for (kind, _), item in self.objects.items() if kind == "StatefulSet"]
        pod = a_pod(made["metadata"]["labels"]["openmodel.dev/revision"], **more)
        pod["metadata"]["ownerReferences"] = [{"uid": made["metadata"]["uid"]}]
        self.pods = [pod]
        return pod

    def ready(self) -> tuple[str, str]:
        assert self.model is not None
        condition = next(item for item in self.model["status"]["conditions"] if item["type"] == "Ready")
        return condition["status"], condition["reason"]


class Prover:
    """Answers as it is told, and counts."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.ok = True

    async def __call__(self, address: str, model: str, revision: str) -> Proof:
        self.asked.append((address, model, revision))
        return Proof(ok=self.ok, message="" if self.ok else "UNAVAILABLE: no")


async def no_group(address: str) -> GroupReport | None:
    return None


def controller(kube: DictionaryKube, prover: Prover, ask_group: AskGroup = no_group) -> Controller:
    return Controller(cast(Kube, kube), Settings(runtime_image=IMAGE), prover, ask_group)


async def test_from_nothing_to_serving() -> None:
    kube, prover = DictionaryKube(), Prover()
    subject = controller(kube, prover)
    await subject.reconcile(KEY)
    assert kube.ready() == ("False", "Starting")
    assert len(kube.objects) == 5
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
    assert kube.objects == {(kind, IDENTITY.name): foreign}


async def test_a_refused_field_builds_nothing() -> None:
    kube = DictionaryKube(autoscaling={"maxReplicas": 2})
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


def condition(kube: DictionaryKube, kind: str) -> tuple[str, str]:
    assert kube.model is not None
    found = next(item for item in kube.model["status"]["conditions"] if item["type"] == kind)
    return found["status"], found["reason"]


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
    assert condition(kube, "ExpertCoverage") == ("True", "AllExpertsServed")
    report = a_report(imbalance=1.26)
    await subject.reconcile(KEY)
    assert kube.model is not None
    assert kube.model["status"]["plan"]["survives"] == {"processLoss": 2, "podLoss": 1}
    assert kube.model["status"]["experts"] == {"imbalance": 1.3}
    report = a_report(ranks=1, missing_experts=4)
    kube.run_pod(ready=False)
    await subject.reconcile(KEY)
    assert condition(kube, "ExpertCoverage") == ("False", "ExpertsMissing")
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
    assert condition(kube, "Planned") == ("False", "InsufficientMemory")
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
