"""The Job that finds out what a checkpoint is, and the ConfigMap that keeps it.

Named by what is looked at and by whom: models of a namespace that have the same source share it.
"""

from __future__ import annotations

from openmodel_operator import names
from openmodel_operator.desired.identity import Identity, content_hash
from openmodel_operator.desired.security import CONTAINER_SECURITY, POD_SECURITY
from openmodel_operator.desired.source import model_mount, model_volume
from openmodel_operator.spec import Manifest, OpenModelSpec

# What lets a pod start at all in a cluster: pull secrets, a place to run.
_TAKEN_OVER = ("imagePullSecrets", "nodeSelector", "tolerations", "affinity", "priorityClassName", "runtimeClassName")
_TERMINATION_LOG = "/dev/termination-log"
# A look takes seconds; a registry may be slow, a node may have to come.
_DEADLINE_SECONDS = 3600
# Then what failed is tried again: the source may have been mended.
_KEPT_SECONDS = 600
_RETRIES = 2
# Python, torch, and the headers of the files.
_RESOURCES = {"requests": {"cpu": "100m", "memory": "384Mi"}, "limits": {"memory": "1Gi"}}


def inspection_key(spec: OpenModelSpec, image: str) -> str:
    """What an inspection of this source is known by."""
    return content_hash(_pod_spec(spec, image))


def inspection_name(key: str) -> str:
    """Name of the Job and of the ConfigMap."""
    return f"openmodel-inspection-{key}"


def inspection_job(identity: Identity, spec: OpenModelSpec, image: str) -> Manifest:
    """Mounts the source as a model's pods do, on a CPU; reads headers alone."""
    key = inspection_key(spec, image)
    labels = _labels(key)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": identity.metadata(inspection_name(key), labels, controller=False),
        "spec": {
            "backoffLimit": _RETRIES,
            "activeDeadlineSeconds": _DEADLINE_SECONDS,
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {
                            "containerName": names.FETCH_CONTAINER,
                            "operator": "In",
                            "values": [names.EXIT_START_FAILED],
                        },
                    },
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]
            },
            "template": {"metadata": {"labels": labels}, "spec": _pod_spec(spec, image)},
        },
    }


def inspection_record(identity: Identity, key: str, summary: str) -> Manifest:
    """What was found; it goes when the last model that has this source goes."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": identity.metadata(inspection_name(key), _labels(key), controller=False),
        "data": {names.INSPECTION_SUMMARY: summary},
    }


def _labels(key: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "openmodel",
        "app.kubernetes.io/managed-by": names.COMPONENT,
        names.INSPECTION_LABEL: key,
    }


def _pod_spec(spec: OpenModelSpec, image: str) -> Manifest:
    template = spec.pod_template.get("spec", {})
    runtime: Manifest = next(
        (item for item in template.get("containers", []) if item["name"] == names.RUNTIME_CONTAINER), {}
    )
    taken = {key: template[key] for key in _TAKEN_OVER if key in template}
    pull = {"imagePullPolicy": runtime["imagePullPolicy"]} if "imagePullPolicy" in runtime else {}
    return {
        **POD_SECURITY,
        **taken,
        "restartPolicy": "Never",
        "containers": [
            {
                "name": names.FETCH_CONTAINER,
                "image": runtime.get("image", image),
                **pull,
                "command": ["python3", "-m", "openmodel_fetch"],
                "args": [
                    "inspect",
                    f"--model={names.MODEL_PATH}",
                    f"--termination-message-path={_TERMINATION_LOG}",
                ],
                "resources": _RESOURCES,
                "securityContext": CONTAINER_SECURITY,
                "volumeMounts": [model_mount(spec), {"name": "tmp", "mountPath": "/tmp"}],
            }
        ],
        "volumes": [model_volume(spec), {"name": "tmp", "emptyDir": {}}],
    }
