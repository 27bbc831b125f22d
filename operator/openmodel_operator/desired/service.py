"""The Service that users keep: its name is the model's, and it selects pods of one proven revision."""

from __future__ import annotations

from openmodel_operator import names
from openmodel_operator.desired.identity import Identity
from openmodel_operator.spec import Manifest, OpenModelSpec


def pods_that_answer(identity: Identity, spec: OpenModelSpec, revision: str) -> dict[str, str]:
    """Labels of the pods of a revision that callers may ask (`names.NO_REVISION`: of none).

    Where ranks share each matrix, the first of a group takes the requests of all; else every pod does.
    """
    first = {names.POD_INDEX_LABEL: "0"} if spec.tensor else {}
    return {**identity.selector(), names.REVISION_LABEL: revision, **first}


def model_service(identity: Identity, selector: Manifest) -> Manifest:
    """The Service, pointed at pods."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": identity.metadata(identity.name, identity.labels()),
        "spec": {
            "selector": selector,
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
