"""What every pod of ours runs under: restricted Pod Security, no token, nothing to write to but what is mounted."""

from __future__ import annotations

from openmodel_operator.spec import Manifest

POD_SECURITY: Manifest = {
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
    "securityContext": {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
}
"""Of a pod's spec."""

CONTAINER_SECURITY: Manifest = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""A container's securityContext."""
