"""The Jobs that inspect, verify and fetch checkpoints, the ConfigMaps that keep what they found, the claims they fill.

Named by what is done and by whom: models of a namespace that want the same share it.
"""

from __future__ import annotations

from dataclasses import asdict, replace

from openmodel_operator import names
from openmodel_operator.desired.identity import COMMON_LABELS, Identity, content_hash
from openmodel_operator.desired.merge import merge
from openmodel_operator.desired.security import CONTAINER_SECURITY, POD_SECURITY
from openmodel_operator.desired.source import model_mount, model_volume
from openmodel_operator.inspection import SUMMARY_FORM
from openmodel_operator.spec import Manifest, OpenModelSpec

# What lets a pod start at all in a cluster: pull secrets, a place to run.
_TAKEN_OVER = ("imagePullSecrets", "nodeSelector", "tolerations", "affinity", "priorityClassName", "runtimeClassName")
_TERMINATION_LOG = "/dev/termination-log"
# A look takes seconds; a registry may be slow, a node may have to come. A fetch takes what it takes.
_INSPECTION_SECONDS = 3600
_FETCH_SECONDS = 7 * 24 * 3600
# Then what failed is tried again: the source may have been mended.
_KEPT_SECONDS = 600
_RETRIES = 3
# Python, torch, and the headers of the files, or a piece of them.
_RESOURCES = {"requests": {"cpu": "100m", "memory": "384Mi"}, "limits": {"memory": "1Gi"}}
_SPARE_BYTES = 256 << 20
_ENVIRONMENT = {
    "HOME": "/tmp",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # Its buffers go by what the node has, not by what the pod may use.
    "HF_HUB_DISABLE_XET": "1",
}


def inspection_job(identity: Identity, spec: OpenModelSpec, image: str) -> Manifest:
    """Reads headers alone, on a CPU: of what it mounts as a model's pods do, or of what it asks a hub for."""
    if spec.is_fetched:
        container = _container(spec, image, ["inspect", *_hub_flags(spec)], _token_mounts(spec))
        volumes = _token_volumes(spec)
    else:
        container = _container(spec, image, ["inspect", f"--model={names.MODEL_PATH}"], [model_mount(spec)])
        volumes = [model_volume(spec)]
    wanted = {"source": spec.source, "revision": spec.revision, **asdict(spec.fetch), "form": SUMMARY_FORM}
    return _job(identity, "inspection", wanted, _pod_spec(spec, container, volumes), _INSPECTION_SECONDS)


def verification_job(
    identity: Identity, spec: OpenModelSpec, image: str, digest: str, claim: Manifest | None = None
) -> Manifest:
    """Reads all of what it mounts, and fails where that has another digest; another claim of that name is read anew."""
    flags = ["verify", f"--model={names.MODEL_PATH}", f"--digest={digest}"]
    container = _container(spec, image, flags, [model_mount(spec)])
    of_claim = None if claim is None else claim["metadata"]["uid"]
    wanted = {"source": spec.source, "revision": spec.revision, "digest": digest, "claim": of_claim}
    return _job(identity, "digest", wanted, _pod_spec(spec, container, [model_volume(spec)]), _FETCH_SECONDS)


def fetch_job(identity: Identity, spec: OpenModelSpec, image: str, claim: Manifest, commit: str) -> Manifest:
    """Fills the claim with the checkpoint at a commit. Another claim of that name is another Job."""
    flags = ["download", f"--cache={names.CACHE_PATH}", *_hub_flags(spec, commit)]
    cache = {"name": "cache", "mountPath": names.CACHE_PATH}
    container = _container(spec, image, flags, [cache, *_token_mounts(spec)])
    volume = {"name": "cache", "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}
    pod = _pod_spec(spec, container, [volume, *_token_volumes(spec)])
    wanted = {"source": spec.source, "commit": commit, "claim": claim["metadata"]["uid"]}
    return _job(identity, "fetch", wanted, pod, _FETCH_SECONDS)


def record_name(job: Manifest) -> str:
    """Name of what keeps the Job's summary: by what is wanted alone, whoever found it."""
    return str(job["metadata"]["labels"][names.RECORD_LABEL])


def record(identity: Identity, job: Manifest, summary: str) -> Manifest:
    """What the Job found; it goes when the last model that wants it goes."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": identity.metadata(record_name(job), job["metadata"]["labels"], controller=False),
        "data": {names.JOB_SUMMARY: summary},
    }


def claim_name(spec: OpenModelSpec, commit: str) -> str:
    """The claim that keeps the checkpoint: the user's, or one of ours a checkpoint."""
    return spec.fetch.claim or f"openmodel-weights-{content_hash({'source': spec.source, 'commit': commit})}"


def weights_claim(
    identity: Identity, spec: OpenModelSpec, commit: str, size: int, access_mode: str, storage_class: str
) -> Manifest:
    """A claim of ours, large enough for the checkpoint; it goes when the last model that wants it goes."""
    storage = {"storageClassName": storage_class} if storage_class else {}
    return {
        **owned_claim(identity, spec, commit),
        "spec": {
            "accessModes": [access_mode],
            "resources": {"requests": {"storage": str(size + size // 20 + _SPARE_BYTES)}},
            **storage,
        },
    }


def owned_claim(identity: Identity, spec: OpenModelSpec, commit: str) -> Manifest:
    """A claim of ours, as a further model that wants it says so; how it is made is the first one's to say."""
    metadata = identity.metadata(claim_name(spec, commit), COMMON_LABELS, controller=False)
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata}


def as_mounted(spec: OpenModelSpec, commit: str) -> OpenModelSpec:
    """The spec of a model whose checkpoint was fetched: pods mount it where `openmodel-fetch` puts it."""
    repository = spec.source.removeprefix("hf://").replace("/", "--")
    source = f"pvc://{claim_name(spec, commit)}/{repository}/{commit}"
    # What was fetched is known by its commit.
    return replace(spec, source=source, revision=None, digest=None)


def _job(identity: Identity, kind: str, wanted: Manifest, pod: Manifest, seconds: int) -> Manifest:
    kept = f"openmodel-{kind}-{content_hash(wanted)}"
    # Another pod is another Job: one that was stuck on a wrong image is not waited for when that is right.
    name = f"{kept}-{content_hash(pod)[:5]}"
    labels = {
        **COMMON_LABELS,
        names.MODEL_LABEL: names.SHARED,
        names.RECORD_LABEL: kept,
        names.JOB_LABEL: name,
    }
    given_up = {"containerName": names.FETCH_CONTAINER, "operator": "In", "values": [names.EXIT_START_FAILED]}
    rules = [
        {"action": "FailJob", "onExitCodes": given_up},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": identity.metadata(name, labels, controller=False),
        "spec": {
            "backoffLimit": _RETRIES,
            "activeDeadlineSeconds": seconds,
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
            "podFailurePolicy": {"rules": rules},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _hub_flags(spec: OpenModelSpec, commit: str | None = None) -> list[str]:
    flags = {
        "source": spec.source,
        "revision": commit or spec.revision,
        "endpoint": spec.fetch.endpoint,
        "token-file": f"{names.TOKEN_PATH}/token" if spec.fetch.secret else None,
    }
    return [f"--{flag}={value}" for flag, value in flags.items() if value is not None]


def _token_mounts(spec: OpenModelSpec) -> list[Manifest]:
    return [{"name": "token", "mountPath": names.TOKEN_PATH, "readOnly": True}] if spec.fetch.secret else []


def _token_volumes(spec: OpenModelSpec) -> list[Manifest]:
    """The kubelet mounts it; the operator reads no Secrets."""
    if spec.fetch.secret is None:
        return []
    name, key = spec.fetch.secret
    # One that is not there is the program's to tell: the kubelet would wait for it without a word in the pod's status.
    secret = {"secretName": name, "items": [{"key": key, "path": "token"}], "optional": True}
    return [{"name": "token", "secret": secret}]


def _container(spec: OpenModelSpec, image: str, arguments: list[str], mounts: list[Manifest]) -> Manifest:
    template = spec.pod_template.get("spec", {})
    runtime: Manifest = next(
        (item for item in template.get("containers", []) if item["name"] == names.RUNTIME_CONTAINER), {}
    )
    pull: Manifest = {key: runtime[key] for key in ("imagePullPolicy",) if key in runtime}
    return {
        "name": names.FETCH_CONTAINER,
        "image": runtime.get("image", image),
        **pull,
        "command": ["python3", "-m", "openmodel_fetch"],
        "args": [*arguments, f"--termination-message-path={_TERMINATION_LOG}"],
        "env": [{"name": name, "value": value} for name, value in _ENVIRONMENT.items()],
        "resources": _RESOURCES,
        "securityContext": merge(CONTAINER_SECURITY, runtime.get("securityContext", {})),
        "volumeMounts": [*mounts, {"name": "tmp", "mountPath": "/tmp"}],
    }


def _pod_spec(spec: OpenModelSpec, container: Manifest, volumes: list[Manifest]) -> Manifest:
    template = spec.pod_template.get("spec", {})
    return {
        **POD_SECURITY,
        # Whoever may read a claim may read it here.
        "securityContext": merge(POD_SECURITY["securityContext"], template.get("securityContext", {})),
        **{key: template[key] for key in _TAKEN_OVER if key in template},
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [*volumes, {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
    }
