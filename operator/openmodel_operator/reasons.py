"""Types and reasons of conditions: every word that `status.conditions` may carry.

docs/reference/conditions.md explains each with cause and remedy; a test holds the two equal.
"""

from __future__ import annotations

from enum import StrEnum


class ConditionType(StrEnum):
    """The conditions of an OpenModel, all present from the first visit."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    ADMITTED = "Admitted"
    PLANNED = "Planned"
    WEIGHTS_READY = "WeightsReady"
    EXPERT_COVERAGE = "ExpertCoverage"
    SCALING = "Scaling"
    ROLLOUT_VERIFIED = "RolloutVerified"


class Reason(StrEnum):
    """Why a condition has its status."""

    # Ready
    SERVING = "Serving"
    SCALED_TO_ZERO = "ScaledToZero"
    SUSPENDED = "Suspended"
    INSPECTING = "Inspecting"
    FETCHING = "Fetching"
    STARTING = "Starting"
    PAUSED = "Paused"
    ROLLING_OUT = "RollingOut"
    EXPERTS_MISSING = "ExpertsMissing"
    PROBE_FAILED = "ProbeFailed"
    # Reconciling, Stalled
    SETTLED = "Settled"
    PROGRESSING = "Progressing"
    NOT_STALLED = "NotStalled"
    # Failures; they stand in Ready and, where only a change helps, in Stalled
    UNSUPPORTED_FIELD = "UnsupportedField"
    INVALID_SPEC = "InvalidSpec"
    NAME_TAKEN = "NameTaken"
    APPLY_REJECTED = "ApplyRejected"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    INVALID_CHECKPOINT = "InvalidCheckpoint"
    UNSUPPORTED_MODEL = "UnsupportedModel"
    INSPECTION_FAILED = "InspectionFailed"
    LICENSE_MISMATCH = "LicenseMismatch"
    DIGEST_MISMATCH = "DigestMismatch"
    SOURCE_REFUSED = "SourceRefused"
    CACHE_NOT_FOUND = "CacheNotFound"
    FETCH_INTERRUPTED = "FetchInterrupted"
    FETCH_FAILED = "FetchFailed"
    STORAGE_FULL = "StorageFull"
    INSUFFICIENT_MEMORY = "InsufficientMemory"
    UNSCHEDULABLE = "Unschedulable"
    CRASH_LOOP = "CrashLoop"
    OUT_OF_MEMORY = "OutOfMemory"
    CONTAINER_FAILED = "ContainerFailed"
    PODS_REFUSED = "PodsRefused"
    MOUNT_FAILED = "MountFailed"
    UNHEALTHY = "Unhealthy"
    # Admitted, Planned, WeightsReady, ExpertCoverage, Scaling, RolloutVerified
    NO_POLICY = "NoPolicy"
    CONTENT_CAPTURED = "ContentCaptured"
    PLAN_MADE = "PlanMade"
    LOADED = "Loaded"
    NOT_LOADED = "NotLoaded"
    ALL_EXPERTS_SERVED = "AllExpertsServed"
    NOT_SERVING = "NotServing"
    AS_ASKED = "AsAsked"
    AUTOSCALED = "Autoscaled"
    CONTESTED = "Contested"
    NOT_REQUESTED = "NotRequested"
    VERIFYING = "Verifying"
    VERIFIED = "Verified"
    DIVERGED = "Diverged"
    NOTHING_TO_COMPARE = "NothingToCompare"
    GOLDEN_PROMPTS_INVALID = "GoldenPromptsInvalid"
