"""A hub's model on its way into a claim, against an API server that is a dictionary."""

from __future__ import annotations

from typing import Any

from factories import a_summary
from kube_double import KEY, DictionaryKube, Prover, controller, end_pod
from openmodel_operator.controller import Controller
from openmodel_operator.spec import Manifest

HUB: dict[str, Any] = {"model": {"source": "hf://openmodel/tiny", "secretRef": {"name": "hub", "key": "token"}}}
COMMIT = "1" * 40


async def fetching(kube: DictionaryKube, size: int) -> Controller:
    """The model has been inspected, and is being fetched where that can be."""
    subject = controller(kube, Prover())
    await subject.reconcile(KEY)
    end_pod(kube, exitCode=0, message=a_summary(commit=COMMIT, download_bytes=size))
    await subject.reconcile(KEY)
    return subject


async def test_a_hubs_model_is_inspected_planned_fetched_and_then_started() -> None:
    kube = DictionaryKube(inspected=False, **HUB)
    subject = await fetching(kube, 1 << 30)
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
    end_pod(kube, jobs[0], exitCode=0, message='{"digest": "sha256:0"}')
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
    subject = await fetching(kube, 1)
    assert kube.ready() == ("False", "CacheNotFound")
    kube.objects["PersistentVolumeClaim", "mine"] = {"metadata": {"name": "mine", "uid": "uid-mine"}}
    await subject.reconcile(KEY)
    assert kube.ready() == ("False", "Fetching")


async def test_a_fetch_that_was_cut_off_is_told_while_it_is_tried_again() -> None:
    kube = DictionaryKube(inspected=False, **HUB)
    subject = await fetching(kube, 1)
    (job,) = [item for (kind, name), item in kube.objects.items() if kind == "Job" and "-fetch-" in name]
    end_pod(kube, job, exitCode=75, message='{"reason": "StorageFull", "message": "spec.model.cache: no room"}')
    await subject.reconcile(KEY)
    assert kube.ready() == ("False", "StorageFull")
    assert kube.condition("Stalled")[0] == "False"
    assert kube.condition("Reconciling")[0] == "True"


async def test_how_far_a_fetch_has_come_stands_in_the_status() -> None:
    kube = DictionaryKube(inspected=False, **HUB)
    subject = await fetching(kube, 900)
    assert kube.model is not None
    assert kube.model["status"]["model"]["download"] == {"bytes": 0, "total": 900}
    (job,) = [item for (kind, name), item in kube.objects.items() if kind == "Job" and "-fetch-" in name]
    end_pod(kube, job, exitCode=0)
    kube.pods[0]["status"]["containerStatuses"][0]["state"] = {"running": {}}
    kube.logged = 'a line\n{"fetched": 300, "total": 900}\nanother\n'
    await subject.reconcile(KEY)
    assert kube.model["status"]["model"]["download"] == {"bytes": 300, "total": 900}
    kube.logged = "nothing of that kind"
    await subject.reconcile(KEY)
    assert kube.ready() == ("False", "Fetching")


def only(kube: DictionaryKube, kind: str, words: str = "") -> Manifest:
    (found,) = [item for (known, name), item in kube.objects.items() if known == kind and words in name]
    return found


async def serving(kube: DictionaryKube) -> Controller:
    """The model has been inspected, fetched and proven."""
    subject = await fetching(kube, 1)
    end_pod(kube, only(kube, "Job", "-fetch-"), exitCode=0, message='{"digest": "sha256:0"}')
    await subject.reconcile(KEY)
    kube.run_pod()
    await subject.reconcile(KEY)
    assert kube.ready() == ("True", "Serving")
    return subject


async def test_a_hubs_model_that_serves_goes_on_without_its_record() -> None:
    kube = DictionaryKube(inspected=False, **HUB)
    await serving(kube)
    for kind, name in [key for key in kube.objects if key[0] in ("Job", "ConfigMap")]:
        del kube.objects[kind, name]
    before = only(kube, "StatefulSet")
    await controller(kube, Prover()).reconcile(KEY)
    assert kube.ready() == ("True", "Serving")
    assert kube.condition("Planned") == ("Unknown", "Inspecting")
    assert only(kube, "StatefulSet") == before


async def test_a_claim_that_went_while_nothing_ran_is_made_and_filled_again() -> None:
    kube = DictionaryKube(inspected=False, **HUB)
    subject = await serving(kube)
    claim = only(kube, "PersistentVolumeClaim")
    kube.objects = {key: item for key, item in kube.objects.items() if key[0] != "PersistentVolumeClaim"}
    kube.pods = []
    await subject.reconcile(KEY)
    made = only(kube, "PersistentVolumeClaim")
    assert made["metadata"]["name"] == claim["metadata"]["name"]
    made["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    await subject.reconcile(KEY)
    assert kube.ready() == ("False", "Fetching")


async def test_a_pull_that_failed_once_is_not_told_for_the_whole_fetch() -> None:
    kube = DictionaryKube(inspected=False, **HUB)
    subject = await fetching(kube, 1)
    end_pod(kube, only(kube, "Job", "-fetch-"), exitCode=0)
    (status,) = kube.pods[0]["status"]["containerStatuses"]
    status["state"] = {"waiting": {"reason": "ErrImagePull", "message": "no"}}
    await subject.reconcile(KEY)
    assert kube.condition("Stalled") == ("True", "ImagePullFailed")
    status["state"] = {"running": {}}
    await subject.reconcile(KEY)
    assert kube.ready() == ("False", "Fetching")
    assert kube.condition("Stalled")[0] == "False"


async def test_the_digest_that_was_fetched_is_told_and_held_to_what_is_pinned() -> None:
    kube = DictionaryKube(inspected=False, **HUB)
    subject = await serving(kube)
    assert kube.model is not None
    told = kube.model["status"]["model"]
    assert told["digest"] == "sha256:0"
    assert told["verifiedAt"]
    await subject.reconcile(KEY)
    assert kube.model["status"]["model"] == told
    kube.model["spec"]["model"] = {**HUB["model"], "digest": "sha256:1"}
    await subject.reconcile(KEY)
    assert kube.condition("Stalled") == ("True", "DigestMismatch")
    assert kube.condition("Planned") == ("False", "DigestMismatch")
    assert only(kube, "StatefulSet")
    kube.model["spec"]["model"] = {**HUB["model"], "digest": "sha256:0"}
    await subject.reconcile(KEY)
    assert kube.ready() == ("True", "Serving")


PINNED: dict[str, Any] = {"model": {"source": "pvc://models/tiny", "digest": "sha256:1"}}


async def verifying(**spec: Any) -> tuple[DictionaryKube, Controller]:
    """A model that is mounted as it is was inspected, and its digest is being found out."""
    kube = DictionaryKube(inspected=False, **spec)
    subject = controller(kube, Prover())
    await subject.reconcile(KEY)
    end_pod(kube, exitCode=0, message=a_summary())
    await subject.reconcile(KEY)
    return kube, subject


async def test_what_is_mounted_as_it_is_starts_once_it_has_the_digest_that_is_pinned() -> None:
    kube, subject = await verifying(**PINNED)
    assert kube.ready() == ("False", "Inspecting")
    job = only(kube, "Job", "-digest-")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"][:3] == ["verify", "--model=/model", "--digest=sha256:1"]
    assert not [name for kind, name in kube.objects if kind == "StatefulSet"]
    end_pod(kube, job, exitCode=0, message='{"digest": "sha256:1"}')
    await subject.reconcile(KEY)
    assert kube.ready() == ("False", "Starting")
    kube.run_pod()
    await subject.reconcile(KEY)
    assert kube.ready() == ("True", "Serving")
    assert kube.model is not None
    told = kube.model["status"]["model"]
    assert (told["digest"], bool(told["verifiedAt"])) == ("sha256:1", True)
    await subject.reconcile(KEY)
    assert kube.model["status"]["model"] == told
    # Of what nobody pins nothing is told that may not hold any more, also where nothing runs.
    kube.model["spec"] |= {"model": {"source": "pvc://models/tiny"}, "suspend": True}
    await subject.reconcile(KEY)
    assert "digest" not in kube.model["status"]["model"]


async def test_a_digest_that_one_source_was_found_to_have_is_not_anothers() -> None:
    """Pods of a revision have what was found: another digest, or another source of it, is another revision."""
    kube, subject = await verifying(**PINNED)
    end_pod(kube, only(kube, "Job", "-digest-"), exitCode=0, message='{"digest": "sha256:1"}')
    await subject.reconcile(KEY)
    kube.run_pod()
    await subject.reconcile(KEY)
    assert kube.ready() == ("True", "Serving")
    assert kube.model is not None
    serving = only(kube, "StatefulSet")
    for source, digest in (("pvc://models/other", "sha256:1"), ("pvc://models/tiny", "sha256:2")):
        kube.model["spec"]["model"] = {"source": source, "digest": digest}
        await subject.reconcile(KEY)
        jobs = [item for (kind, name), item in kube.objects.items() if kind == "Job" and "-inspection-" in name]
        end_pod(kube, jobs[-1], exitCode=0, message=a_summary())
        await subject.reconcile(KEY)
        assert kube.ready() == ("False", "Inspecting")
        wanted = [item for (kind, name), item in kube.objects.items() if kind == "Job" and "-digest-" in name]
        assert f"--digest={digest}" in wanted[-1]["spec"]["template"]["spec"]["containers"][0]["args"]
        # What serves goes on, and nothing of the other is started.
        assert only(kube, "StatefulSet") == serving


async def test_a_claim_that_was_made_anew_is_read_anew() -> None:
    kube = DictionaryKube(inspected=False, **PINNED)
    kube.objects["PersistentVolumeClaim", "models"] = {"metadata": {"name": "models", "uid": "first"}}
    subject = controller(kube, Prover())
    await subject.reconcile(KEY)
    end_pod(kube, exitCode=0, message=a_summary())
    await subject.reconcile(KEY)
    first = only(kube, "Job", "-digest-")["metadata"]["name"]
    kube.objects["PersistentVolumeClaim", "models"]["metadata"]["uid"] = "second"
    await subject.reconcile(KEY)
    assert len([name for kind, name in kube.objects if kind == "Job" and "-digest-" in name]) == 2
    assert only(kube, "Job", first)


async def test_what_is_known_of_a_fetched_model_stays_while_its_inspection_is_not_known() -> None:
    kube = DictionaryKube(inspected=False, **HUB)
    await serving(kube)
    assert kube.model is not None
    kube.model["spec"]["model"] = {**HUB["model"], "digest": "sha256:0"}
    kept = ("digest", "verifiedAt", "revision", "download")
    told = {key: kube.model["status"]["model"][key] for key in kept}
    for kind, name in [key for key in kube.objects if key[0] in ("Job", "ConfigMap")]:
        del kube.objects[kind, name]
    again = controller(kube, Prover())
    for _ in range(3):
        await again.reconcile(KEY)
        assert kube.ready() == ("True", "Serving")
        assert {key: kube.model["status"]["model"].get(key) for key in kept} == told


async def test_what_is_mounted_and_has_another_digest_is_not_started() -> None:
    kube, subject = await verifying(**PINNED)
    refused = '{"reason": "DigestMismatch", "message": "spec.model.digest: the checkpoint has sha256:2"}'
    job = only(kube, "Job", "-digest-")
    end_pod(kube, job, exitCode=78, message=refused)
    job["status"] = {"conditions": [{"type": "Failed", "status": "True"}]}
    await subject.reconcile(KEY)
    assert kube.condition("Stalled") == ("True", "DigestMismatch")
    assert kube.condition("Planned") == ("False", "DigestMismatch")
    assert not [name for kind, name in kube.objects if kind == "StatefulSet"]
    # The Job goes after a while, and it is found out again: it may have been mended. Until then the verdict stands.
    del kube.objects["Job", job["metadata"]["name"]]
    kube.pods = []
    await subject.reconcile(KEY)
    assert only(kube, "Job", "-digest-")
    assert kube.condition("Stalled") == ("True", "DigestMismatch")
