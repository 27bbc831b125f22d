"""Names that other programs see: API group, labels, field managers, ports."""

from __future__ import annotations

GROUP = "openmodel.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "OpenModel"
PLURAL = "openmodels"

FIELD_MANAGER = "openmodel-operator"
STATUS_FIELD_MANAGER = "openmodel-operator-status"
COMPONENT = "openmodel-operator"
"""Reporting component of Events."""

MODEL_LABEL = f"{GROUP}/model"
REVISION_LABEL = f"{GROUP}/revision"
GROUP_INDEX_LABEL = f"{GROUP}/group"
POD_INDEX_LABEL = "apps.kubernetes.io/pod-index"

INSPECTION_LABEL = f"{GROUP}/inspection"
"""Of what finds out what a checkpoint is; the value is a hash of the source and of who looks."""

NO_REVISION = "none"
"""Value of the Service's revision before any revision was proven: it selects no pod."""

RUNTIME_CONTAINER = "runtime"
MODEL_VOLUME = "model"
MODEL_PATH = "/model"
FETCH_CONTAINER = "fetch"
INSPECTION_SUMMARY = "summary.json"
GROUP_VOLUME = "group"
GROUP_PATH = "/etc/openmodel/group"
GROUP_SETTINGS = "settings.json"

GRPC_PORT = 8001
METRICS_PORT = 8002
HEALTH_PORT = 8003
PEER_PORT = 8004

EXIT_START_FAILED = 78
"""The runtime's exit code when its model can not be served and a restart would not help."""
