"""A model's way from its source to a plan, against an API server that is a dictionary."""

from __future__ import annotations

from factories import IDENTITY, IMAGE, a_spec, a_summary
from kube_double import KEY, DictionaryKube, Prover, controller, end_pod
from openmodel_operator.desired.fetch_jobs import inspection_job, record_name


async def test_nothing_is_started_before_the_checkpoint_is_known() -> None:
    kube = DictionaryKube(inspected=False)
    subject = controller(kube, Prover())
    await subject.reconcile(KEY)
    assert kube.ready() == ("False", "Inspecting")
    assert [kind for kind, _ in kube.objects] == ["Job"]
    ((_, job),) = kube.objects
    assert subject.waiting_for(job) == {KEY}
    end_pod(kube, exitCode=0, message=a_summary())
    await subject.reconcile(KEY)
    assert kube.ready() == ("False", "Starting")
    assert "StatefulSet" in {kind for kind, _ in kube.objects}
    assert kube.condition("Planned") == ("True", "PlanMade")


async def test_a_checkpoint_that_can_not_be_served_starts_nothing_and_says_why() -> None:
    kube = DictionaryKube(inspected=False)
    subject = controller(kube, Prover())
    await subject.reconcile(KEY)
    end_pod(kube, exitCode=78, message='{"reason": "InvalidCheckpoint", "message": "config.json is missing"}')
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


async def test_a_live_group_is_not_changed_past_its_plan() -> None:
    kube = DictionaryKube(parallelism={"expert": 2})
    subject = controller(kube, Prover())
    await subject.reconcile(KEY)
    kube.run_pod()
    await subject.reconcile(KEY)
    assert kube.model is not None
    kube.model["spec"]["parallelism"]["redundantExperts"] = 100
    await subject.reconcile(KEY)
    assert kube.condition("Planned") == ("False", "InvalidSpec")
    assert kube.condition("Stalled") == ("True", "InvalidSpec")
    (settings,) = [item for (kind, _), item in kube.objects.items() if kind == "ConfigMap"]
    assert '"redundantExperts": 0' in settings["data"]["settings.json"]


def test_what_was_found_stays_found_whoever_would_look_now() -> None:
    jobs = [
        inspection_job(IDENTITY, spec, image)
        for image in (IMAGE, "another")
        for spec in (a_spec(), a_spec(podTemplate={"spec": {"tolerations": [{"operator": "Exists"}]}}))
    ]
    assert len({record_name(job) for job in jobs}) == 1
    assert len({job["metadata"]["name"] for job in jobs}) == 4
    assert all(len(job["metadata"]["name"]) <= 63 for job in jobs)


def test_who_may_read_a_claim_may_inspect_it() -> None:
    template = {"spec": {"securityContext": {"runAsUser": 1000, "supplementalGroups": [7]}}}
    pod = inspection_job(IDENTITY, a_spec(podTemplate=template), IMAGE)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] == 1000
    assert pod["securityContext"]["supplementalGroups"] == [7]
    assert pod["securityContext"]["runAsNonRoot"]


async def test_a_licence_that_the_card_does_not_state_starts_nothing_and_stalls_what_serves() -> None:
    kube = DictionaryKube()
    subject = controller(kube, Prover())
    assert kube.model is not None
    source = kube.model["spec"]["model"]["source"]
    kube.model["spec"]["model"] = {"source": source, "license": "MIT"}
    await subject.reconcile(KEY)
    assert kube.condition("Stalled") == ("True", "LicenseMismatch")
    assert kube.objects == {}
    kube.model["spec"]["model"] = {"source": source, "license": "Apache-2.0"}
    await subject.reconcile(KEY)
    kube.run_pod()
    await subject.reconcile(KEY)
    assert kube.ready() == ("True", "Serving")
    kube.model["spec"]["model"] = {"source": source, "license": "MIT"}
    await subject.reconcile(KEY)
    assert kube.condition("Stalled") == ("True", "LicenseMismatch")
    assert "StatefulSet" in {kind for kind, _ in kube.objects}
