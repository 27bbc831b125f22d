"""How many ranks and pods a group gets, and why.

Pure. One rank a group for now; the per-rank memory bill joins with the inspection of checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

from openmodel_operator.spec import OpenModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPlan:
    """Size of one group."""

    ranks: int
    pods: int
    reason: str


def plan_group(spec: OpenModelSpec) -> GroupPlan:
    """The plan for one group."""
    noun = "thread" if spec.threads == 1 else "threads"
    return GroupPlan(
        ranks=1,
        pods=1,
        reason=f"one rank on CPU with {spec.threads} {noun}, from spec.resources.requests.cpu",
    )
