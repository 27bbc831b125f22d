"""Which fields this version refuses, by name.

A field of the API whose capability is not built yet is never ignored: it is refused here, with what to do instead.
Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openmodel_operator.spec import group_ranks

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Refusal:
    """A field that can not be honoured."""

    path: str
    message: str


@dataclass(frozen=True, slots=True)
class _Limit:
    """Values of a field that can be honoured; none means that the field must be absent."""

    path: str
    accepted: tuple[object, ...]
    remedy: str


_LATER = "is not supported yet: leave it out"
_LIMITS = (
    _Limit("engine.quantization", ("auto", "none", "int8"), "is not supported yet: use auto, none or int8"),
    _Limit("parallelism.expert", tuple(range(1, 9)), "is not supported yet: use 1 to 8 or leave it out"),
    _Limit("parallelism.tensor", tuple(range(1, 9)), "is not supported yet: use 1 to 8 or leave it out"),
    _Limit("accelerator", (), "is not supported yet: leave it out, the model then runs on CPU"),
    _Limit("access.tls", (), _LATER),
    _Limit("access.authentication", ("None",), "is not supported yet: use None or leave it out"),
    _Limit("access.router", ("WhenCold",), "is not supported yet: use WhenCold or leave it out"),
    _Limit("access.tokensPerMinute", (), _LATER),
    _Limit("access.parentRefs", (), _LATER),
)


def refusals(spec: Mapping[str, Any]) -> tuple[Refusal, ...]:
    """Every field of the spec that this version can not honour; empty when it can honour all."""
    found = [
        Refusal(f"spec.{limit.path}", f"spec.{limit.path}: {value!r} {limit.remedy}")
        for limit in _LIMITS
        if (value := _value_at(spec, limit.path)) is not _ABSENT and value not in limit.accepted
    ]
    parallelism = spec.get("parallelism", {})
    ranks, per_pod = group_ranks(parallelism), parallelism.get("ranksPerPod", 1)
    if ranks % per_pod:
        found.append(
            Refusal(
                "spec.parallelism.ranksPerPod",
                f"spec.parallelism.ranksPerPod: {ranks} ranks (parallelism.expert or tensor) do not fill pods of "
                f"{per_pod}: use a number that divides {ranks}",
            )
        )
    if parallelism.get("tensor", 1) > 1 and parallelism.get("redundantExperts", 0):
        found.append(
            Refusal(
                "spec.parallelism.redundantExperts",
                "spec.parallelism.redundantExperts: a dense model, whose matrices ranks share (parallelism.tensor), "
                "has no experts: leave it out",
            )
        )
    telemetry = spec.get("telemetry", {})
    if telemetry.get("captureContent", False) and "otlpEndpoint" not in telemetry:
        found.append(
            Refusal(
                "spec.telemetry.captureContent",
                "spec.telemetry.captureContent: what callers ask and are answered goes into spans, and those go "
                "nowhere: set otlpEndpoint, or use false",
            )
        )
    rollout = spec.get("rollout", {})
    if rollout.get("strategy") == "Recreate" and rollout.get("verify", {"mode": "Recorded"}).get("mode") != "Recorded":
        found.append(
            Refusal(
                "spec.rollout.verify.mode",
                "spec.rollout.verify.mode: with strategy Recreate nothing is left to compare with: use Recorded, or "
                "strategy Surge",
            )
        )
    source = spec["model"]["source"]
    if "digest" in spec["model"] and source.startswith("oci://") and not ("@" in source or "revision" in spec["model"]):
        told = "spec.model.digest: a tag may be moved once it was read: set spec.model.revision too"
        found.append(Refusal("spec.model.digest", told))
    if not source.startswith(("oci://", "pvc://", "hf://")):
        scheme = source.split("://")[0]
        found.append(
            Refusal(
                "spec.model.source",
                f"spec.model.source: {scheme}:// is not supported yet: use oci://, pvc:// or hf://",
            )
        )
    return tuple(found)


def router_refusals(spec: Mapping[str, Any]) -> tuple[Refusal, ...]:
    """What can not be honoured where no router is installed."""
    remedy = "needs the router, which is not installed (router.enabled of the chart)"
    found = []
    if spec.get("access", {}).get("router") is not None:
        found.append(Refusal("spec.access.router", f"spec.access.router: {remedy}: leave it out"))
    if spec.get("autoscaling", {}).get("minReplicas") == 0:
        told = f"spec.autoscaling.minReplicas: 0 {remedy}, as nothing else would wake the model: use 1"
        found.append(Refusal("spec.autoscaling.minReplicas", told))
    return tuple(found)


def _value_at(spec: Mapping[str, Any], path: str) -> object:
    value: object = spec
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _ABSENT
        value = value[part]
    return value
