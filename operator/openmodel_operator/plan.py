"""How many ranks and pods a group gets, and why.

Pure. The per-rank memory bill joins with the inspection of checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

from openmodel_operator.spec import OpenModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPlan:
    """Size of one group."""

    ranks: int
    pods: int
    redundant_experts: int
    reason: str


def plan_group(spec: OpenModelSpec) -> GroupPlan:
    """The plan for one group."""
    noun = "thread" if spec.threads == 1 else "threads"
    pods = spec.ranks // spec.ranks_per_pod
    where = "one pod" if pods == 1 else f"{pods} pods"
    shared = "each matrix" if spec.tensor else "the experts"
    ranks = "one rank" if spec.ranks == 1 else f"{spec.ranks} ranks in {where} share {shared},"
    each = "" if spec.ranks == 1 else " each"
    return GroupPlan(
        ranks=spec.ranks,
        pods=pods,
        redundant_experts=spec.redundant_experts,
        reason=f"{ranks} on CPU with {spec.threads} {noun}{each}, from spec.resources.requests.cpu",
    )
