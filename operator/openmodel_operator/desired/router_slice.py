"""The EndpointSlice that sends a model's calls to the routers while no pod can take them.

It stands beside those that Kubernetes makes of the Service's selector, and maps the Service's port to the model's own
at the routers, by which they know which model is meant. It has the port for as long as the model lives; while pods
serve it has no address.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from openmodel_operator import names
from openmodel_operator.desired.identity import Identity
from openmodel_operator.spec import Manifest


def router_slice(identity: Identity, port: int, routers: Sequence[str], *, answers: bool) -> Manifest:
    """The slice, with the addresses of routers, of one family; `answers`: the model would, were it awake."""
    first = routers[0] if routers else "0.0.0.0"
    version = ip_address(first).version
    labels = identity.labels(
        **{names.SERVICE_LABEL: identity.name, "endpointslice.kubernetes.io/managed-by": names.COMPONENT}
    )
    metadata = identity.metadata(f"{identity.name}-router", labels)
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**metadata, "annotations": {names.ANSWERS_ANNOTATION: str(answers).lower()}},
        "addressType": f"IPv{version}",
        "endpoints": [
            {"addresses": [router], "conditions": {"ready": True}}
            for router in routers
            if ip_address(router).version == version
        ],
        "ports": [{"name": "grpc", "port": port, "protocol": "TCP", "appProtocol": "kubernetes.io/h2c"}],
    }


def port_of(slice_: Manifest) -> int | None:
    """The model's port at the routers; None when the slice has lost it."""
    ports = slice_.get("ports") or []
    return int(ports[0]["port"]) if len(ports) == 1 and ports[0].get("port") else None
