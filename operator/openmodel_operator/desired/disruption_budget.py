"""How many of a model's pods may be evicted at once."""

from __future__ import annotations

from openmodel_operator import names
from openmodel_operator.desired.identity import Identity
from openmodel_operator.spec import Manifest


def disruption_budget(identity: Identity, serving: str) -> Manifest:
    """One pod of the serving revision at a time: whoever drains a node waits until another has taken its place.

    A pod that is not ready serves nobody and may always go. Pods of a revision that has not been proven do not count:
    one that never gets ready would otherwise hold up every node.
    """
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": identity.metadata(identity.name, identity.labels()),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": {**identity.selector(), names.REVISION_LABEL: serving}},
        },
    }
