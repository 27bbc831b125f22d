"""One expert-parallel group: a StatefulSet and the headless Service by which its ranks find each other."""

from __future__ import annotations

from openmodel_operator import names
from openmodel_operator.desired.identity import Identity, group_name
from openmodel_operator.desired.pod import with_revision
from openmodel_operator.spec import Manifest


def group_manifests(identity: Identity, template: Manifest, revision: str, index: int, pods: int) -> list[Manifest]:
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
            "replicas": pods,
            "serviceName": name,
            "podManagementPolicy": "Parallel",
            # A revision's template never changes: a change makes a new revision with its own StatefulSet.
            "updateStrategy": {"type": "OnDelete"},
            "selector": {"matchLabels": selector},
            "template": with_revision(template, revision, index),
        },
    }
    return [service, stateful_set]
