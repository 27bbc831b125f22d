"""An API server that is a dictionary, and what else a controller needs, for one look at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from factories import IDENTITY, IMAGE, SOURCE, a_pod, a_spec, a_summary
from openmodel_operator.controller import AskGroup, Controller
from openmodel_operator.desired.fetch_jobs import inspection_job, record
from openmodel_operator.golden_prompts import GoldenPrompt
from openmodel_operator.group_report import GroupReport
from openmodel_operator.kube import Kube, KubeError
from openmodel_operator.observed import Proof
from openmodel_operator.settings import Settings
from openmodel_operator.spec import Manifest
from openmodel_operator.verifier import Complete

KEY = (IDENTITY.namespace, IDENTITY.name)


class DictionaryKube:
    """Objects by kind and name; `refusal` is raised by the next apply. The checkpoint has been inspected."""

    def __init__(self, *, inspected: bool = True, **spec: Any) -> None:
        metadata = {"namespace": IDENTITY.namespace, "name": IDENTITY.name, "uid": IDENTITY.uid, "generation": 1}
        self.model: Manifest | None = {"metadata": metadata, "spec": {"model": {"source": SOURCE}, **spec}}
        self.objects: dict[tuple[str, str], Manifest] = {}
        self.pods: list[Manifest] = []
        self.events: list[Manifest] = []
        self.refusal: KubeError | None = None
        self.logged = ""
        kept = record(IDENTITY, inspection_job(IDENTITY, a_spec(), IMAGE), a_summary())
        self.record = {kept["metadata"]["name"]: kept} if inspected else {}

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> Manifest | None:
        if kind == "ConfigMap" and name in self.record:
            return self.record[name]
        return self.model if kind == "OpenModel" else self.objects.get((kind, name))

    async def list(
        self, api_version: str, kind: str, namespace: str | None, labels: Mapping[str, str]
    ) -> list[Manifest]:
        found = self.pods if kind == "Pod" else [item for (known, _), item in self.objects.items() if known == kind]
        return [item for item in found if labels.items() <= item["metadata"].get("labels", {}).items()]

    async def apply(self, manifest: Manifest, manager: str = "") -> Manifest:
        if self.refusal is not None:
            raise self.refusal
        name = manifest["metadata"]["name"]
        metadata = {**manifest["metadata"], "uid": f"uid-{manifest['kind']}-{name}"}
        self.objects[manifest["kind"], name] = {**manifest, "metadata": metadata}
        return self.objects[manifest["kind"], name]

    async def delete(self, manifest: Manifest) -> None:
        del self.objects[manifest["kind"], manifest["metadata"]["name"]]

    async def patch_status(self, model: Manifest, patch: Manifest) -> None:
        assert self.model is not None
        self.model = {**self.model, "status": _merged(self.model.get("status", {}), patch)}

    async def log(self, namespace: str, pod: str, lines: int) -> str:
        return self.logged

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
        return self.condition("Ready")

    def condition(self, kind: str) -> tuple[str, str]:
        assert self.model is not None
        found = next(item for item in self.model["status"]["conditions"] if item["type"] == kind)
        return found["status"], found["reason"]


def _merged(before: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """As RFC 7396 has it."""
    merged = dict(before)
    for key, value in patch.items():
        merged[key] = _merged(before.get(key, {}), value) if isinstance(value, Mapping) else value
    return {key: value for key, value in merged.items() if value is not None}


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


async def no_tokens(address: str, model: str, revision: str, prompt: GoldenPrompt) -> Sequence[int]:
    raise ConnectionError("nobody")


def controller(
    kube: DictionaryKube, prover: Prover, ask_group: AskGroup = no_group, complete: Complete = no_tokens
) -> Controller:
    return Controller(cast(Kube, kube), Settings(runtime_image=IMAGE), prover, ask_group, complete)


def end_pod(kube: DictionaryKube, job: Manifest | None = None, **state: Any) -> None:
    """The pod of the Job, or of the one that is there, has ended."""
    if job is None:
        (job,) = [item for (kind, _), item in kube.objects.items() if kind == "Job"]
    ended = {"name": "fetch", "ready": False, "state": {"terminated": state}}
    labels, owners = job["spec"]["template"]["metadata"]["labels"], [{"uid": job["metadata"]["uid"]}]
    kube.pods = [
        {
            "metadata": {"name": "fetch", "namespace": KEY[0], "labels": labels, "ownerReferences": owners},
            "status": {"phase": "Running", "containerStatuses": [ended]},
        }
    ]
