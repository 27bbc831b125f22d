"""The pod of a group: one container that runs the runtime, under restricted Pod Security."""

from __future__ import annotations

from openmodel_operator import names
from openmodel_operator.desired.identity import Identity, group_name
from openmodel_operator.desired.merge import merge
from openmodel_operator.desired.security import CONTAINER_SECURITY, POD_SECURITY
from openmodel_operator.desired.source import model_mount, model_volume
from openmodel_operator.spec import Manifest, OpenModelSpec
from openmodel_telemetry.names import CAPTURE_VARIABLE, CAPTURED, NOT_CAPTURED

# A pod that ends still takes calls for this long: every node's proxy hears of its end a moment after the pod does.
_SETTLE_SECONDS = 5
# Time between the last call's end and the pod's, on top of the drain.
_STOP_MARGIN_SECONDS = 15
_GROUP_ENV = [
    {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    {
        "name": "POD_INDEX",
        "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{names.POD_INDEX_LABEL}']"}},
    },
]


def pod_template(identity: Identity, spec: OpenModelSpec, image: str) -> Manifest:
    """The pod template without its revision, which is a hash of this."""
    template = {
        "metadata": {"labels": identity.labels()},
        "spec": {
            **POD_SECURITY,
            "terminationGracePeriodSeconds": spec.drain_seconds + _SETTLE_SECONDS + _STOP_MARGIN_SECONDS,
            "containers": [_container(identity, spec, image)],
            "volumes": [
                model_volume(spec),
                {"name": "tmp", "emptyDir": {}},
                {"name": "shm", "emptyDir": {"medium": "Memory"}},
                *([{"name": names.GROUP_VOLUME, "configMap": {"name": ""}}] if spec.grouped else []),
            ],
        },
    }
    merged: Manifest = merge(template, spec.pod_template)
    # Last: no template of the user's says what was verified.
    pinned: Manifest = merge(merged, {"metadata": _pinned(spec)})
    return pinned


def _pinned(spec: OpenModelSpec) -> Manifest:
    """What another digest makes another revision by: pods that serve have what was found to have theirs."""
    return {} if spec.digest is None else {"annotations": {names.DIGEST_ANNOTATION: spec.digest}}


def with_revision(template: Manifest, model: str, revision: str, group: int) -> Manifest:
    """The template of one group of a revision."""
    labels = {names.REVISION_LABEL: revision, names.GROUP_INDEX_LABEL: str(group)}
    (container,) = [item for item in template["spec"]["containers"] if item["name"] == names.RUNTIME_CONTAINER]
    arguments, volumes = [*container["args"], f"--version={revision}"], []
    if is_grouped(template):
        name = group_name(model, revision, group)
        # The pods of the group by the names that its headless Service gives them.
        arguments.append(f"--peers={name}-{{pod}}.{name}")
        volumes.append({"name": names.GROUP_VOLUME, "configMap": {"name": name}})
    runtime = {"name": names.RUNTIME_CONTAINER, "args": arguments}
    spec = {"containers": [runtime], "volumes": volumes}
    marked: Manifest = merge(template, {"metadata": {"labels": labels}, "spec": spec})
    return marked


def is_grouped(template: Manifest) -> bool:
    """Whether the pods of a group meet, and find in a ConfigMap what it should be like."""
    return any(volume["name"] == names.GROUP_VOLUME for volume in template["spec"].get("volumes", []))


def _container(identity: Identity, spec: OpenModelSpec, image: str) -> Manifest:
    return {
        "name": names.RUNTIME_CONTAINER,
        "image": image,
        "args": _arguments(identity, spec),
        "env": [{"name": "HOME", "value": "/tmp"}, *(_GROUP_ENV if spec.grouped else []), *_telemetry_env(spec)],
        "ports": [
            {"name": "grpc", "containerPort": names.GRPC_PORT},
            {"name": "metrics", "containerPort": names.METRICS_PORT},
            {"name": "health", "containerPort": names.HEALTH_PORT},
            *([{"name": "peer", "containerPort": names.PEER_PORT}] if spec.grouped else []),
        ],
        "resources": spec.resources,
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [
            model_mount(spec),
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "shm", "mountPath": "/dev/shm"},
            *([{"name": names.GROUP_VOLUME, "mountPath": names.GROUP_PATH, "readOnly": True}] if spec.grouped else []),
        ],
        "startupProbe": _probe("liveness", period=1, failures=120),
        "livenessProbe": _probe("liveness", period=10, failures=3),
        "readinessProbe": _probe("", period=1, failures=3),
    }


def _telemetry_env(spec: OpenModelSpec) -> list[Manifest]:
    """OpenTelemetry's own variables."""
    telemetry = spec.telemetry
    # Also where nothing is captured: what comes by `envFrom` of the user's template is not seen here.
    captured = CAPTURED if telemetry.capture_content else NOT_CAPTURED
    capture = {"name": CAPTURE_VARIABLE, "value": captured}
    if telemetry.otlp_endpoint is None:
        return [capture]
    where = "k8s.namespace.name=$(POD_NAMESPACE),k8s.pod.name=$(POD_NAME)"
    return [
        {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": telemetry.otlp_address},
        {"name": "OTEL_TRACES_SAMPLER_ARG", "value": str(telemetry.sample_ratio)},
        {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "OTEL_RESOURCE_ATTRIBUTES", "value": where},
        capture,
    ]


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
        "threads": spec.threads,
        "drain-seconds": spec.drain_seconds,
        "settle-seconds": _SETTLE_SECONDS,
        "termination-message-path": "/dev/termination-log",
    }
    if spec.grouped:
        # How many ranks and copies a group has is not here: it may change without new pods.
        flags |= {
            "tensor-parallel-size": spec.ranks if spec.tensor else None,
            "ranks-per-pod": spec.ranks_per_pod,
            "pod": "$(POD_INDEX)",
            "address": "$(POD_IP)",
            "group-settings": f"{names.GROUP_PATH}/{names.GROUP_SETTINGS}",
        }
    arguments = [f"--{flag}={value}" for flag, value in flags.items() if value is not None]
    return [*arguments, "--prefix-caching" if engine.prefix_caching else "--no-prefix-caching"]
