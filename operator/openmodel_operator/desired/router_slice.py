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


def slice_name(model: str) -> str:
    """Name of a model's slice."""
    return f"{model}-router"


def router_slice(identity: Identity, port: int, routers: Sequence[str], family: str, *, answers: bool) -> Manifest:
    """The slice, with those addresses of routers that are of its family; that, IPv4 or IPv6, it has for life.

    `answers`: the model would, were it awake.
    """
    labels = identity.labels(**{names.SERVICE_LABEL: identity.name, names.SLICE_MAKER_LABEL: names.COMPONENT})
    metadata = identity.metadata(slice_name(identity.name), labels)
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**metadata, "annotations": {names.ANSWERS_ANNOTATION: str(answers).lower()}},
        "addressType": family,
        "endpoints": [
            {"addresses": [router], "conditions": {"ready": True}}
            for router in routers
            if f"IPv{ip_address(router).version}" == family
        ],
        "ports": [{"name": "grpc", "port": port, "protocol": "TCP", "appProtocol": "kubernetes.io/h2c"}],
    }


def port_of(slice_: Manifest) -> int | None:
    """The model's port at the routers; None when the slice has lost it."""
    ports = slice_.get("ports") or []
    return int(ports[0]["port"]) if len(ports) == 1 and ports[0].get("port") else None
