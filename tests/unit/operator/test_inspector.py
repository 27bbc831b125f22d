"""A model's way from its source to a plan, against an API server that is a dictionary."""

from __future__ import annotations

from typing import Any

from factories import a_summary
from kube_double import KEY, DictionaryKube, Prover, controller
from openmodel_operator.spec import Manifest


def fetch_pod(kube: DictionaryKube, job: Manifest | None = None, **state: Any) -> None:
    """The pod of the Job, or of the one that is there, has ended."""
    if job is None:
        (job,) = [item for (kind, _), item in kube.objects.items() if kind == "Job"]
    ended = {"name": "fetch", "ready": False, "state": {"terminated": state}}
    labels = job["spec"]["template"]["metadata"]["labels"]
    kube.pods = [
        {
            "metadata": {"name": "fetch", "namespace": KEY[0], "labels": labels},
            "status": {"phase": "Running", "containerStatuses": [ended]},
        }
    ]


async def test_nothing_is_started_before_the_checkpoint_is_known() -> None:
    kube = DictionaryKube(inspected=False)
    subject = controller(kube, Prover())
    await subject.reconcile(KEY)
    assert kube.ready() == ("False", "Inspecting")
    assert [kind for kind, _ in kube.objects] == ["Job"]
    ((_, job),) = kube.objects
    assert subject.waiting_for(job) == {KEY}
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


HUB: dict[str, Any] = {"model": {"source": "hf://openmodel/tiny", "secretRef": {"name": "hub", "key": "token"}}}
COMMIT = "1" * 40


async def test_a_hubs_model_is_inspected_planned_fetched_and_then_started() -> None:
    kube = DictionaryKube(inspected=False, **HUB)
    subject = controller(kube, Prover())
    await subject.reconcile(KEY)
    fetch_pod(kube, exitCode=0, message=a_summary(commit=COMMIT, download_bytes=1 << 30))
    await subject.reconcile(KEY)
    assert kube.ready() == ("False", "Fetching")
    assert kube.condition("Planned") == ("True", "PlanMade")
    assert {kind for kind, _ in kube.objects} == {"Job", "ConfigMap", "PersistentVolumeClaim"}
    assert kube.model is not None
    assert kube.model["status"]["model"]["revision"] == COMMIT
    (claim,) = [item for (kind, _), item in kube.objects.items() if kind == "PersistentVolumeClaim"]
    assert int(claim["spec"]["resources"]["requests"]["storage"]) > 1 << 30
    jobs = [item for (kind, name), item in kube.objects.items() if kind == "Job" and "-fetch-" in name]
    (container,) = jobs[0]["spec"]["template"]["spec"]["containers"]
    assert f"--revision={COMMIT}" in container["args"]
    assert "--token-file=/etc/openmodel/token/token" in container["args"]
    fetch_pod(kube, jobs[0], exitCode=0, message='{"digest": "sha256:0"}')
    await subject.reconcile(KEY)
    assert kube.ready() == ("False", "Starting")
    (made,) = [item for (kind, _), item in kube.objects.items() if kind == "StatefulSet"]
    pod = made["spec"]["template"]["spec"]
    (volume,) = [item for item in pod["volumes"] if item["name"] == "model"]
    assert volume["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"], "readOnly": True}
    (mount,) = [item for item in pod["containers"][0]["volumeMounts"] if item["name"] == "model"]
    assert mount["subPath"] == f"openmodel--tiny/{COMMIT}"
    assert not [volume for volume in pod["volumes"] if "secret" in volume], "only Jobs see tokens"


async def test_a_claim_that_is_not_there_is_named() -> None:
    hub = {"model": {**HUB["model"], "cache": {"persistentVolumeClaim": "mine"}}}
    kube = DictionaryKube(inspected=False, **hub)
    subject = controller(kube, Prover())
    await subject.reconcile(KEY)
    fetch_pod(kube, exitCode=0, message=a_summary(commit=COMMIT, download_bytes=1))
    await subject.reconcile(KEY)
    assert kube.ready() == ("False", "CacheNotFound")
    kube.objects["PersistentVolumeClaim", "mine"] = {"metadata": {"name": "mine", "uid": "uid-mine"}}
    await subject.reconcile(KEY)
    assert kube.ready() == ("False", "Fetching")


async def test_a_fetch_that_was_cut_off_is_told_while_it_is_tried_again() -> None:
    kube = DictionaryKube(inspected=False, **HUB)
    subject = controller(kube, Prover())
    await subject.reconcile(KEY)
    fetch_pod(kube, exitCode=0, message=a_summary(commit=COMMIT, download_bytes=1))
    await subject.reconcile(KEY)
    (job,) = [item for (kind, name), item in kube.objects.items() if kind == "Job" and "-fetch-" in name]
    fetch_pod(kube, job, exitCode=75, message='{"reason": "StorageFull", "message": "spec.model.cache: no room"}')
    await subject.reconcile(KEY)
    assert kube.ready() == ("False", "StorageFull")
    assert kube.condition("Stalled")[0] == "False"
    assert kube.condition("Reconciling")[0] == "True"


async def test_how_far_a_fetch_has_come_stands_in_the_status() -> None:
    kube = DictionaryKube(inspected=False, **HUB)
    subject = controller(kube, Prover())
    await subject.reconcile(KEY)
    fetch_pod(kube, exitCode=0, message=a_summary(commit=COMMIT, download_bytes=900))
    await subject.reconcile(KEY)
    assert kube.model is not None
    assert kube.model["status"]["model"]["download"] == {"bytes": 0, "total": 900}
    (job,) = [item for (kind, name), item in kube.objects.items() if kind == "Job" and "-fetch-" in name]
    fetch_pod(kube, job, exitCode=0)
    kube.pods[0]["status"]["containerStatuses"][0]["state"] = {"running": {}}
    kube.logged = 'a line\n{"fetched": 300, "total": 900}\nanother\n'
    await subject.reconcile(KEY)
    assert kube.model["status"]["model"]["download"] == {"bytes": 300, "total": 900}
    kube.logged = "nothing of that kind"
    await subject.reconcile(KEY)
    assert kube.ready() == ("False", "Fetching")
