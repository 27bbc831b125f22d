"""The Service that users keep: its name is the model's, and it selects the pods of one proven revision."""

from __future__ import annotations

from openmodel_operator import names
from openmodel_operator.desired.identity import Identity
from openmodel_operator.spec import Manifest


def model_service(identity: Identity, revision: str) -> Manifest:
    """The Service, pointed at `revision` (`names.NO_REVISION` before any was proven)."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": identity.metadata(identity.name, identity.labels()),
        "spec": {
            "selector": {**identity.selector(), names.REVISION_LABEL: revision},
            "ports": [
                {
                    "name": "grpc",
                    "port": names.GRPC_PORT,
                    "targetPort": "grpc",
                    "appProtocol": "kubernetes.io/h2c",
                }
            ],
        },
    }


def endpoint(identity: Identity) -> str:
    """Address that clients in the cluster dial."""
    return f"grpc://{identity.name}.{identity.namespace}.svc:{names.GRPC_PORT}"
