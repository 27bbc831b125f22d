"""What the user is told of golden prompts.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openmodel_operator.conditions import find_condition
from openmodel_operator.reasons import ConditionType, Reason
from openmodel_operator.rollout import ActionPlan
from openmodel_operator.spec import Manifest, OpenModelSpec

VerifiedVerdict = tuple[bool | None, Reason, str]
_WAITING = (None, Reason.VERIFYING, "golden prompts are asked once all groups of a new revision have answered")


def verified_verdict(spec: OpenModelSpec, actions: ActionPlan, before: Mapping[str, Any]) -> VerifiedVerdict:
    """Whether the revision that is to serve was verified; what was found of one that serves stands while it does."""
    if spec.verify is None:
        return None, Reason.NOT_REQUESTED, "no golden prompts were given"
    if actions.verification is not None:
        return actions.verification.verified, actions.verification.reason, actions.verification.message
    if not _stands(actions, before):
        return _WAITING
    told = find_condition(before, ConditionType.ROLLOUT_VERIFIED)
    if not told:
        return _WAITING
    return {"True": True, "False": False}.get(told["status"]), Reason(told["reason"]), told["message"]


def verification_status(spec: OpenModelSpec, actions: ActionPlan, before: Mapping[str, Any]) -> Manifest:
    """`rollout.verification`: of which revision, how many prompts passed, and the first difference."""
    if spec.verify is None:
        return {}
    found = actions.verification
    if found is None:
        return {"verification": before["rollout"]["verification"]} if _stands(actions, before) else {}
    first = {"firstDivergence": found.divergence} if found.divergence else {}
    return {"verification": {"revision": actions.revision, "passed": found.passed, "total": found.total, **first}}


def _stands(actions: ActionPlan, before: Mapping[str, Any]) -> bool:
    """Whether what was told last is of the revision that serves."""
    told = before.get("rollout", {}).get("verification", {})
    return bool(told.get("revision") == actions.serving)
