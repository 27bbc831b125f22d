"""An API server that is a dictionary, and what else a controller needs, for one look at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from factories import IDENTITY, IMAGE, SOURCE, a_pod, a_spec, a_summary
from openmodel_operator import names
from openmodel_operator.cluster import Cluster
from openmodel_operator.cold_routes import ColdRoutes
from openmodel_operator.controller import Controller
from openmodel_operator.desired.fetch_jobs import inspection_job, record
from openmodel_operator.golden_prompts import GoldenPrompt
from openmodel_operator.group_report import GroupReport
from openmodel_operator.kube import Kube, KubeError
from openmodel_operator.object_cache import ObjectCache
from openmodel_operator.observed import Proof, is_ready
from openmodel_operator.observer import Observer
from openmodel_operator.probe import AskGroup, AskLoad, Complete, Probes
from openmodel_operator.scaling.autoscaler import Autoscaler
from openmodel_operator.scaling.decision import Tempo
from openmodel_operator.scaling.load import PodLoad
from openmodel_operator.scaling.signals import Held, Signals
from openmodel_operator.settings import Settings
from openmodel_operator.spec import Manifest

MADE = "2026-01-01T00:00:00Z"
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
        self.told: dict[str, list[Manifest]] = {}
        self.version = 0
        self.routers = ["10.0.0.9"]
        kept = record(IDENTITY, inspection_job(IDENTITY, a_spec(), IMAGE), a_summary())
        self.record = {kept["metadata"]["name"]: kept} if inspected else {}

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> Manifest | None:
        if kind == "ConfigMap" and name in self.record:
            return self.record[name]
        return self.model if kind == "OpenModel" else self.objects.get((kind, name))

    def labelled(self, kind: str, labels: Mapping[str, str]) -> list[Manifest]:
        found = self.pods if kind == "Pod" else [item for (known, _), item in self.objects.items() if known == kind]
        if kind == "EndpointSlice":
            found = [*found, *self._made_slices()]
        return [item for item in found if labels.items() <= item["metadata"].get("labels", {}).items()]

    def _made_slices(self) -> list[Manifest]:
        """Those that Kubernetes makes of the model's Service."""
        service = self.objects.get(("Service", IDENTITY.name))
        if service is None:
            return []
        selector = service.get("spec", {}).get("selector", {"nobody": ""})
        found = [pod for pod in self.pods if selector.items() <= pod["metadata"].get("labels", {}).items()]
        labels = {names.MODEL_LABEL: IDENTITY.name, names.SERVICE_LABEL: IDENTITY.name}
        endpoints = [
            {"addresses": ["10.0.0.1"], "conditions": {"ready": is_ready(pod)}, "targetRef": pod["metadata"]}
            for pod in found
        ]
        return [{"metadata": {"name": "made", "labels": labels}, "endpoints": endpoints}]

    async def apply(self, manifest: Manifest, manager: str = "") -> Manifest:
        if self.refusal is not None:
            raise self.refusal
        name = manifest["metadata"]["name"]
        before = self.objects.get((manifest["kind"], name), {"metadata": {}})
        same = before == {**manifest, "metadata": {**before["metadata"], **manifest["metadata"]}}
        self.version += not same
        given = (
            before["metadata"]
            if same
            else {
                "uid": f"uid-{manifest['kind']}-{name}",
                "resourceVersion": str(self.version),
                "creationTimestamp": MADE,
            }
        )
        metadata = {**given, **manifest["metadata"]} if same else {**manifest["metadata"], **given}
        self.objects[manifest["kind"], name] = {**manifest, "metadata": metadata}
        return self.objects[manifest["kind"], name]

    async def delete(self, manifest: Manifest) -> None:
        del self.objects[manifest["kind"], manifest["metadata"]["name"]]

    async def patch_status(self, model: Manifest, patch: Manifest) -> None:
        assert self.model is not None
        self.model = {**self.model, "status": _merged(self.model.get("status", {}), patch)}
        return None

    async def scale(self, model: Manifest, replicas: int) -> bool:
        assert self.model is not None
        if self.model["metadata"]["generation"] != model["metadata"]["generation"]:
            return False
        metadata = {**self.model["metadata"], "generation": self.model["metadata"]["generation"] + 1}
        self.model = {**self.model, "metadata": metadata, "spec": {**self.model["spec"], "replicas": replicas}}
        return True

    async def log(self, namespace: str, pod: str, lines: int) -> str:
        return self.logged

    async def warnings(self, namespace: str, uid: str) -> list[Manifest]:
        return self.told.get(uid, [])

    async def create_event(self, event: Manifest) -> None:
        self.events.append(event)

    def run_pod(self, **more: Any) -> Manifest:
        """A ready pod of the StatefulSet that is there."""
        (made,) = [item for (kind, _), item in self.objects.items() if kind == "StatefulSet"]
        given = {"name": f"{made['metadata']['name']}-0", **more}
        pod = a_pod(made["metadata"]["labels"]["openmodel.dev/revision"], **given)
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


async def no_load(address: str) -> PodLoad | None:
    return None


async def no_tokens(address: str, model: str, revision: str, prompt: GoldenPrompt) -> Sequence[int]:
    raise ConnectionError("nobody")


class SeenCluster(Cluster):
    """A cluster in which everything is seen at once."""

    def __init__(self, kube: DictionaryKube) -> None:
        super().__init__(cast(Kube, kube), ObjectCache(), lambda: None, (IDENTITY.namespace, "router"))
        self._double = kube

    def model(self, namespace: str, name: str) -> Manifest | None:
        return self._double.model

    def routers(self, *, ready: bool) -> list[str]:
        return self._double.routers

    def all(self, kind: str) -> Iterator[Manifest]:
        return iter(self._double.labelled(kind, {}))

    def children(self, kind: str, namespace: str, model: str) -> list[Manifest]:
        return self._double.labelled(kind, {names.MODEL_LABEL: model})

    def job_pods(self, namespace: str, job: str) -> list[Manifest]:
        return self._double.labelled("Pod", {names.JOB_LABEL: job})


def controller(
    kube: DictionaryKube,
    prover: Prover,
    ask_group: AskGroup = no_group,
    complete: Complete = no_tokens,
    *,
    ask_load: AskLoad = no_load,
    held: Held = lambda _: 0,
    tempo: Tempo | None = None,
) -> Controller:
    cluster, probes = SeenCluster(kube), Probes(prover, ask_group, ask_load, complete)
    autoscaler = Autoscaler(cluster, Signals(ask_load, held), tempo or Tempo())
    settings = Settings(runtime_image=IMAGE, router_service="router")
    return Controller(cluster, settings, probes, Observer(cluster, probes), autoscaler, ColdRoutes(cluster))


def end_pod(kube: DictionaryKube, job: Manifest | None = None, **state: Any) -> None:
    """The pod of the Job, or of the one that is there, has ended."""
    if job is None:
        (job,) = [item for (kind, _), item in kube.objects.items() if kind == "Job"]
    ended = {"name": "fetch", "ready": False, "state": {"terminated": state}}
    labels, owners = job["spec"]["template"]["metadata"]["labels"], [{"uid": job["metadata"]["uid"]}]
    kube.pods = [
        {
            "metadata": {
                "name": "fetch",
                "namespace": KEY[0],
                "creationTimestamp": MADE,
                "labels": labels,
                "ownerReferences": owners,
            },
            "status": {"phase": "Running", "containerStatuses": [ended]},
        }
    ]
