"""Who may talk to a model's pods, and whom they may talk to."""

from __future__ import annotations

from openmodel_operator import names
from openmodel_operator.desired.identity import Identity
from openmodel_operator.spec import Manifest
from openmodel_operator.telemetry_spec import TelemetrySpec


def network_policy(identity: Identity, telemetry: TelemetrySpec) -> Manifest:
    """In: callers on the gRPC port, scrapers on the metrics port, the group's own pods. Out: the group, DNS, OTLP.

    The kubelet's probes come from the node, which no policy shuts out.
    """
    group = [{"podSelector": {"matchLabels": identity.selector()}}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": identity.metadata(identity.name, identity.labels()),
        "spec": {
            "podSelector": {"matchLabels": identity.selector()},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {
                    "ports": [
                        {"port": names.GRPC_PORT, "protocol": "TCP"},
                        {"port": names.METRICS_PORT, "protocol": "TCP"},
                    ]
                },
                {"from": group},
            ],
            "egress": [
                {"to": group},
                {
                    "to": [{"namespaceSelector": {}}],
                    "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
                },
                # The collector may be anywhere.
                *([{"ports": [{"port": telemetry.otlp_port, "protocol": "TCP"}]}] if telemetry.otlp_endpoint else []),
            ],
        },
    }
