"""A model's way from its source to a plan, against an API server that is a dictionary."""

from __future__ import annotations

from typing import Any

from factories import IMAGE, a_spec, a_summary
from kube_double import KEY, DictionaryKube, Prover, controller
from openmodel_operator.desired.inspection import inspection_key


def fetch_pod(kube: DictionaryKube, **state: Any) -> None:
    """The pod of the Job that is there has ended."""
    (job,) = [item for (kind, _), item in kube.objects.items() if kind == "Job"]
    ended = {"name": "fetch", "ready": False, "state": {"terminated": state}}
    labels = job["spec"]["template"]["metadata"]["labels"]
    kube.pods = [
        {"metadata": {"name": "fetch", "labels": labels}, "status": {"phase": "Running", "containerStatuses": [ended]}}
    ]


async def test_nothing_is_started_before_the_checkpoint_is_known() -> None:
    kube = DictionaryKube(inspected=False)
    subject = controller(kube, Prover())
    await subject.reconcile(KEY)
    assert kube.ready() == ("False", "Inspecting")
    assert [kind for kind, _ in kube.objects] == ["Job"]
    assert subject.waiting_for(inspection_key(a_spec(), IMAGE)) == {KEY}
    fetch_pod(kube, exitCode=0, message=a_summary())
    await subject.reconcile(KEY)
    assert kube.ready() == ("False", "Starting")
    assert "StatefulSet" in {kind for kind, _ in kube.objects}
    assert kube.condition("Planned") == ("True", "PlanMade")


async def test_a_checkpoint_that_can_not_be_served_starts_nothing_and_says_why() -> None:
    kube = DictionaryKube(inspected=False)
    subject = controller(kube, Prover())
    await subject.reconcile(KEY)
    fetch_pod(kube, exitCode=78, message='{"reason": "InvalidCheckpoint", "message": "config.json is missing"}')
    (job,) = [item for (kind, _), item in kube.objects.items() if kind == "Job"]
    job["status"] = {"conditions": [{"type": "Failed", "status": "True"}]}
    await subject.reconcile(KEY)
    assert kube.ready() == ("False", "InvalidCheckpoint")
    assert kube.condition("Stalled") == ("True", "InvalidCheckpoint")
    assert kube.condition("Planned") == ("False", "InvalidCheckpoint")
    assert [kind for kind, _ in kube.objects] == ["Job"]
    assert kube.model is not None
    assert kube.model["status"]["lastFailure"]["exitCode"] == 78


async def test_a_model_that_does_not_fit_asks_for_nothing_and_says_what_would_fit() -> None:
    kube = DictionaryKube(resources={"limits": {"memory": "1Gi"}})
    await controller(kube, Prover()).reconcile(KEY)
    assert kube.condition("Planned") == ("False", "InsufficientMemory")
    assert kube.condition("Stalled")[0] == "True"
    assert kube.objects == {}
    assert kube.model is not None
    assert kube.model["status"]["model"]["architecture"] == "MixtralForCausalLM"


async def test_a_suspended_model_is_inspected_and_planned_without_pods() -> None:
    kube = DictionaryKube(suspend=True, resources={"limits": {"memory": "4Gi"}})
    await controller(kube, Prover()).reconcile(KEY)
    assert kube.ready() == ("False", "Suspended")
    assert kube.condition("Planned") == ("True", "PlanMade")
    assert "StatefulSet" not in {kind for kind, _ in kube.objects}
    assert kube.model is not None
    assert kube.model["status"]["plan"]["bytesPerRank"]["weights"] > 0


async def test_a_model_that_serves_goes_on_while_its_checkpoint_is_inspected_again() -> None:
    kube, prover = DictionaryKube(), Prover()
    subject = controller(kube, prover)
    await subject.reconcile(KEY)
    kube.run_pod()
    await subject.reconcile(KEY)
    kube.record = {}
    await controller(kube, prover).reconcile(KEY)
    assert kube.ready() == ("True", "Serving")
    assert kube.condition("Planned") == ("Unknown", "Inspecting")
