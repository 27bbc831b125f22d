"""Where a checkpoint comes from, as a pod mounts it: an image volume or a claim, read-only."""

from __future__ import annotations

from openmodel_operator import names
from openmodel_operator.spec import Manifest, OpenModelSpec


def model_volume(spec: OpenModelSpec) -> Manifest:
    """The volume."""
    scheme, _, rest = spec.source.partition("://")
    if scheme == "oci":
        reference = f"{image_repository(rest)}@{spec.revision}" if spec.revision else rest
        return {"name": names.MODEL_VOLUME, "image": {"reference": reference}}
    claim = claim_of(spec)
    return {"name": names.MODEL_VOLUME, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}


def claim_of(spec: OpenModelSpec) -> str | None:
    """The claim that a model of `pvc://` mounts, None for another."""
    scheme, _, rest = spec.source.partition("://")
    return rest.partition("/")[0] if scheme == "pvc" else None


def model_mount(spec: OpenModelSpec) -> Manifest:
    """Where a container finds it; of a claim, the folder that the source names."""
    mount = {"name": names.MODEL_VOLUME, "mountPath": names.MODEL_PATH, "readOnly": True}
    scheme, _, rest = spec.source.partition("://")
    if scheme == "pvc" and (sub_path := rest.partition("/")[2].strip("/")):
        mount["subPath"] = sub_path
    return mount


def image_repository(reference: str) -> str:
    """An image reference without its tag and digest."""
    head, slash, last = reference.partition("@")[0].rpartition("/")
    return head + slash + last.partition(":")[0]
