"""What the user is told of golden prompts.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openmodel_operator.golden_prompts import Verification
from openmodel_operator.reasons import ConditionType, Reason
from openmodel_operator.spec import Manifest, OpenModelSpec

VerifiedVerdict = tuple[bool | None, Reason, str]
_LASTING = (Reason.VERIFIED, Reason.DIVERGED, Reason.NOTHING_TO_COMPARE)


def verified_verdict(
    spec: OpenModelSpec, verification: Verification | None, before: Mapping[str, Any]
) -> VerifiedVerdict:
    """Whether the revision that serves, or is to serve, was verified; what was found once stands until the next."""
    if spec.verify is None:
        return None, Reason.NOT_REQUESTED, "no golden prompts were given"
    if verification is not None:
        return verification.verified, verification.reason, verification.message
    told = [] if _was_held(before) else before.get("conditions", [])
    for item in told:
        if item["type"] == ConditionType.ROLLOUT_VERIFIED and item["reason"] in _LASTING:
            status = {"True": True, "False": False}.get(item["status"])
            return status, Reason(item["reason"]), str(item["message"])
    return None, Reason.VERIFYING, "golden prompts are asked once all groups of a new revision have answered"


def verification_status(spec: OpenModelSpec, verification: Verification | None, before: Mapping[str, Any]) -> Manifest:
    """`rollout.verification`: how many prompts passed, and the first difference."""
    if spec.verify is None:
        return {}
    if verification is None or not verification.total:
        told = None if _was_held(before) else before.get("rollout", {}).get("verification")
        return {"verification": told} if told else {}
    first = {"firstDivergence": verification.divergence} if verification.divergence else {}
    return {"verification": {"passed": verification.passed, "total": verification.total, **first}}


def _was_held(before: Mapping[str, Any]) -> bool:
    """Whether what is told is of a revision that was not let serve: when it is not asked for any more, that is over."""
    return any(
        item["type"] == ConditionType.READY and item["reason"] == Reason.DIVERGED
        for item in before.get("conditions", [])
    )
