"""The pod of a group: one container that runs the runtime, under restricted Pod Security."""

from __future__ import annotations

from openmodel_operator import names
from openmodel_operator.desired.identity import Identity
from openmodel_operator.desired.merge import merge
from openmodel_operator.spec import Manifest, OpenModelSpec

# A pod that ends still takes calls for this long: every node's proxy hears of its end a moment after the pod does.
_SETTLE_SECONDS = 5
# Time between the last call's end and the pod's, on top of the drain.
_STOP_MARGIN_SECONDS = 15


def pod_template(identity: Identity, spec: OpenModelSpec, image: str) -> Manifest:
    """The pod template without its revision, which is a hash of this."""
    template = {
        "metadata": {"labels": identity.labels()},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": spec.drain_seconds + _SETTLE_SECONDS + _STOP_MARGIN_SECONDS,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(identity, spec, image)],
            "volumes": [
                {"name": names.MODEL_VOLUME, **model_volume(spec)},
                {"name": "tmp", "emptyDir": {}},
                {"name": "shm", "emptyDir": {"medium": "Memory"}},
            ],
        },
    }
    merged: Manifest = merge(template, spec.pod_template)
    return merged


def with_revision(template: Manifest, revision: str, group: int) -> Manifest:
    """The template of one group of a revision."""
    labels = {names.REVISION_LABEL: revision, names.GROUP_INDEX_LABEL: str(group)}
    containers = template["spec"]["containers"]
    (arguments,) = [item["args"] for item in containers if item["name"] == names.RUNTIME_CONTAINER]
    runtime = {"name": names.RUNTIME_CONTAINER, "args": [*arguments, f"--version={revision}"]}
    marked: Manifest = merge(template, {"metadata": {"labels": labels}, "spec": {"containers": [runtime]}})
    return marked


def model_volume(spec: OpenModelSpec) -> Manifest:
    """Where the checkpoint comes from: an image volume or a claim, mounted read-only."""
    scheme, _, rest = spec.source.partition("://")
    if scheme == "oci":
        reference = f"{image_repository(rest)}@{spec.revision}" if spec.revision else rest
        return {"image": {"reference": reference}}
    claim = rest.partition("/")[0]
    return {"persistentVolumeClaim": {"claimName": claim, "readOnly": True}}


def model_sub_path(spec: OpenModelSpec) -> str:
    """The folder within the volume; "" is its root."""
    scheme, _, rest = spec.source.partition("://")
    return rest.partition("/")[2].strip("/") if scheme == "pvc" else ""


def image_repository(reference: str) -> str:
    """An image reference without its tag and digest."""
    head, slash, last = reference.partition("@")[0].rpartition("/")
    return head + slash + last.partition(":")[0]


def _container(identity: Identity, spec: OpenModelSpec, image: str) -> Manifest:
    mount = {"name": names.MODEL_VOLUME, "mountPath": names.MODEL_PATH, "readOnly": True}
    if sub_path := model_sub_path(spec):
        mount["subPath"] = sub_path
    return {
        "name": names.RUNTIME_CONTAINER,
        "image": image,
        "args": _arguments(identity, spec),
        "env": [{"name": "HOME", "value": "/tmp"}],
        "ports": [
            {"name": "grpc", "containerPort": names.GRPC_PORT},
            {"name": "metrics", "containerPort": names.METRICS_PORT},
            {"name": "health", "containerPort": names.HEALTH_PORT},
        ],
        "resources": spec.resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            mount,
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
        "startupProbe": _probe("liveness", period=1, failures=120),
        "livenessProbe": _probe("liveness", period=10, failures=3),
        "readinessProbe": _probe("", period=1, failures=3),
    }


def _probe(service: str, *, period: int, failures: int) -> Manifest:
    return {
        "grpc": {"port": names.HEALTH_PORT, "service": service},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _arguments(identity: Identity, spec: OpenModelSpec) -> list[str]:
    engine = spec.engine
    flags = {
        "model": names.MODEL_PATH,
        "name": identity.name,
        "dtype": engine.dtype,
        "quantization": engine.quantization,
        "max-model-len": engine.max_model_len,
        "max-num-seqs": engine.max_num_seqs,
        "max-num-batched-tokens": engine.max_num_batched_tokens,
        "memory-utilization": engine.memory_utilization,
        "expert-parallel-size": spec.ranks,
        "redundant-experts": spec.redundant_experts,
        "threads": spec.threads,
        "drain-seconds": spec.drain_seconds,
        "settle-seconds": _SETTLE_SECONDS,
        "termination-message-path": "/dev/termination-log",
    }
    arguments = [f"--{flag}={value}" for flag, value in flags.items() if value is not None]
    return [*arguments, "--prefix-caching" if engine.prefix_caching else "--no-prefix-caching"]
