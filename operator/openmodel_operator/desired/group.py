"""One group: a StatefulSet and, where ranks share a model, the headless Service by which its pods find each other."""

from __future__ import annotations

import json

from openmodel_operator import names
from openmodel_operator.desired.identity import Identity, group_name
from openmodel_operator.desired.pod import is_grouped, with_revision
from openmodel_operator.plan import GroupPlan
from openmodel_operator.spec import Manifest


def group_manifests(
    identity: Identity, template: Manifest, revision: str, index: int, plan: GroupPlan
) -> list[Manifest]:
    """Manifests of group `index` of a revision."""
    name = group_name(identity.name, revision, index)
    mark = {names.REVISION_LABEL: revision, names.GROUP_INDEX_LABEL: str(index)}
    selector = {**identity.selector(), **mark}
    metadata = identity.metadata(name, identity.labels(**mark))
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "clusterIP": "None",
            # Ranks meet before any of them is ready.
            "publishNotReadyAddresses": True,
            "selector": selector,
            "ports": [{"name": "grpc", "port": names.GRPC_PORT, "targetPort": "grpc"}],
        },
    }
    stateful_set = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata,
        "spec": {
            "replicas": plan.pods,
            "serviceName": name,
            "podManagementPolicy": "Parallel",
            # A revision's template never changes: a change makes a new revision with its own StatefulSet. How many pods
            # a group has may change: those with the highest numbers come and go.
            "updateStrategy": {"type": "OnDelete"},
            "selector": {"matchLabels": selector},
            "template": with_revision(template, identity.name, revision, index),
        },
    }
    # Before its pods: they mount the one and find each other by the other.
    meeting = [settings_of(identity, name, mark, plan), service] if is_grouped(template) else []
    return [*meeting, stateful_set]


def told_to_group(plan: GroupPlan) -> Manifest:
    """What a live group is told to be."""
    return {"expert": plan.ranks, "redundantExperts": plan.redundant_experts}


def settings_of(identity: Identity, name: str, mark: dict[str, str], plan: GroupPlan) -> Manifest:
    """What the ranks of a group go by when it starts, and what may change while it runs."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": identity.metadata(name, identity.labels(**mark)),
        "data": {names.GROUP_SETTINGS: json.dumps(told_to_group(plan))},
    }
