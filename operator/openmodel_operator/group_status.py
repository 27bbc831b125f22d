"""What the user is told of groups whose ranks share experts: coverage, what they survive, how even their load is.

Pure: from what the groups say of themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from openmodel_operator.conditions import timestamp
from openmodel_operator.group_report import GroupReport
from openmodel_operator.plan import GroupPlan
from openmodel_operator.reasons import Reason
from openmodel_operator.spec import Manifest

CoverageVerdict = tuple[bool | None, Reason, str]
_IMBALANCE_STEP = 0.1


def lacking_experts(reports: Mapping[str, GroupReport]) -> str:
    """Which experts are served by nobody; "" when all are."""
    return "; ".join(_missing(name, report) for name, report in reports.items() if report.missing_experts)


def coverage_verdict(reports: Mapping[str, GroupReport], *, serving: bool) -> CoverageVerdict:
    """Whether every expert is served."""
    if lacking := lacking_experts(reports):
        return False, Reason.EXPERTS_MISSING, lacking
    if serving:
        return True, Reason.ALL_EXPERTS_SERVED, "every group holds all experts"
    return None, Reason.NOT_SERVING, "no group serves this revision"


def survives(reports: Mapping[str, GroupReport]) -> Manifest:
    """What every group can lose, by what its ranks have memory for."""
    if not reports:
        return {}
    processes = min(report.survives_process_loss for report in reports.values())
    pods = min(report.survives_pod_loss for report in reports.values())
    return {"survives": {"processLoss": processes, "podLoss": pods}}


def experts_status(before: Mapping[str, Any], reports: Mapping[str, GroupReport]) -> Manifest:
    """How evenly experts are loaded, in the group where that is worst."""
    known: Manifest = dict(before.get("experts", {}))
    if not reports:
        return {"experts": known} if known else {}
    worst = max(report.imbalance for report in reports.values())
    # What it was said to be stands until it is clearly something else: status is not written for noise.
    if worst and abs(worst - known.get("imbalance", 0.0)) >= _IMBALANCE_STEP:
        known["imbalance"] = round(worst, 1)
    if last := max(report.last_rebalance for report in reports.values()):
        known["lastRebalance"] = timestamp(datetime.fromtimestamp(last, UTC))
    return {"experts": known} if known else {}


def refused_shrink(plan: GroupPlan, reports: Mapping[str, GroupReport]) -> str | None:
    """Why live groups can not have as few ranks as they are to have; None when they can."""
    for name, report in reports.items():
        if plan.ranks < min(report.smallest_ranks, report.wanted_ranks):
            return (
                f"spec.parallelism.expert {plan.ranks}: a rank of group {name} has memory for so many of the "
                f"{report.experts} experts of each layer that at least {report.smallest_ranks} ranks are needed; raise "
                "spec.resources, which starts a new revision, or use more ranks"
            )
    return None


def _missing(name: str, report: GroupReport) -> str:
    """Which experts a group lacks, and why."""
    return (
        f"group {name}: {report.missing_experts} of {report.experts} experts of each layer are served by nobody: the "
        f"{report.ranks} of {report.wanted_ranks} ranks that are there have no memory for them; requests wait for the "
        "ranks that are missing"
    )
