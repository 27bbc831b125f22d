"""Whose manifest it is: labels, owner, names."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from openmodel_operator import names
from openmodel_operator.spec import Manifest

COMMON_LABELS = {"app.kubernetes.io/name": "openmodel", "app.kubernetes.io/managed-by": names.COMPONENT}
"""Of all that the operator makes."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The OpenModel that owns the children."""

    namespace: str
    name: str
    uid: str

    def labels(self, **more: str) -> dict[str, str]:
        """Labels of every child."""
        return {
            **COMMON_LABELS,
            "app.kubernetes.io/instance": self.name,
            names.MODEL_LABEL: self.name,
            **more,
        }

    def selector(self) -> dict[str, str]:
        """Labels that find all pods of the model."""
        return {names.MODEL_LABEL: self.name}

    def metadata(self, name: str, labels: dict[str, str], *, controller: bool = True) -> Manifest:
        """Metadata of a child; the owner reference makes deletion cascade.

        `controller`: it is this model's alone.
        """
        return {
            "name": name,
            "namespace": self.namespace,
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": names.API_VERSION,
                    "kind": names.KIND,
                    "name": self.name,
                    "uid": self.uid,
                    "controller": controller,
                    "blockOwnerDeletion": controller,
                }
            ],
        }


def owned_by(child: Manifest, *uids: str) -> bool:
    """Whether one of these is an owner of the child."""
    return any(owner["uid"] in uids for owner in child["metadata"].get("ownerReferences", []))


def content_hash(value: Manifest) -> str:
    """Ten hexadecimal digits that change with the value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def group_name(model: str, revision: str, index: int) -> str:
    """Name of a group's StatefulSet and headless Service."""
    return f"{model}-{revision}-{index}"
