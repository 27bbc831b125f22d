"""Names that other programs see: API group, labels, field managers, ports."""

from __future__ import annotations

GROUP = "openmodel.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "OpenModel"
PLURAL = "openmodels"

FIELD_MANAGER = "openmodel-operator"
STATUS_FIELD_MANAGER = "openmodel-operator-status"
SCALE_FIELD_MANAGER = "openmodel-autoscaler"
COMPONENT = "openmodel-operator"
"""Reporting component of Events."""

LEASE = "openmodel-operator"
"""Of the operator that acts, in its own namespace."""

MODEL_LABEL = f"{GROUP}/model"
"""Of all that the operator makes, which is what it watches; the value is the model's name."""
SHARED = ""
"""Value of that label on what several models may share."""
REVISION_LABEL = f"{GROUP}/revision"
GROUP_INDEX_LABEL = f"{GROUP}/group"
POD_INDEX_LABEL = "apps.kubernetes.io/pod-index"

JOB_LABEL = f"{GROUP}/job"
"""Of a Job that inspects or fetches a checkpoint, and its pods; the value is the Job's name."""
RECORD_LABEL = f"{GROUP}/record"
"""Of such a Job and what keeps its summary; the value is that one's name."""

APPLIED_ANNOTATION = f"{GROUP}/applied"
"""Of a child: a hash of what was last applied."""

DIGEST_ANNOTATION = f"{GROUP}/digest"
ANSWERS_ANNOTATION = f"{GROUP}/answers"
"""Of a model's slice at the routers: "true" when a call would be answered, were the model awake."""
SERVICE_LABEL = "kubernetes.io/service-name"
SLICE_MAKER_LABEL = "endpointslice.kubernetes.io/managed-by"
"""Of EndpointSlices: the Service that they are of, and who makes them."""

NO_REVISION = "none"
"""Value of the Service's revision before any revision was proven: it selects no pod."""

RUNTIME_CONTAINER = "runtime"
MODEL_VOLUME = "model"
MODEL_PATH = "/model"
FETCH_CONTAINER = "fetch"
TOKEN_PATH = "/etc/openmodel/token"
CACHE_PATH = "/cache"
JOB_SUMMARY = "summary.json"
GROUP_VOLUME = "group"
GROUP_PATH = "/etc/openmodel/group"
GROUP_SETTINGS = "settings.json"

GRPC_PORT = 8001
METRICS_PORT = 8002
HEALTH_PORT = 8003
PEER_PORT = 8004

EXIT_INTERRUPTED = 75
"""`openmodel-fetch`'s exit code when trying again may help."""

EXIT_START_FAILED = 78
"""The runtime's exit code when its model can not be served and a restart would not help."""
