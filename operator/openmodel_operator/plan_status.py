"""What the user is told of a model before it runs: what it is, and the bill of a rank.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from openmodel_operator.conditions import timestamp
from openmodel_operator.inspection import Inspection
from openmodel_operator.job_progress import Fetched, Underway
from openmodel_operator.memory_plan import MemoryBill
from openmodel_operator.outlook import Known, Outlook
from openmodel_operator.plan import GroupPlan
from openmodel_operator.reasons import Reason
from openmodel_operator.spec import Manifest, OpenModelSpec

PlannedVerdict = tuple[bool | None, Reason, str]


def planned_verdict(plan: GroupPlan, outlook: Outlook) -> PlannedVerdict:
    """Whether there is a plan."""
    if isinstance(outlook, Known):
        return True, Reason.PLAN_MADE, _reason(plan, outlook)
    if isinstance(outlook, Underway):
        return None, outlook.reason, outlook.message
    return False, outlook.reason, outlook.message


def plan_status(plan: GroupPlan, outlook: Outlook) -> Manifest:
    """`plan`: the size of a group and, once the checkpoint is known, the bill of each of its ranks."""
    size = {"ranks": plan.ranks, "podsPerReplica": plan.pods}
    if not isinstance(outlook, Known):
        return {**size, "reason": plan.reason}
    memory = outlook.memory
    return {
        **size,
        "bytesPerRank": _bill(memory.bill),
        "kvCacheTokens": memory.kv_cache_tokens,
        "survives": {"processLoss": int(memory.survives_process_loss), "podLoss": int(memory.survives_pod_loss)},
        "reason": _reason(plan, outlook),
    }


def verified_facts(
    before: Mapping[str, Any], spec: OpenModelSpec, outlook: Outlook, now: datetime, *, serves: bool
) -> Manifest:
    """`model.digest` and since when it is known; the spec's source is where pods mount it.

    Of what was fetched it stays while the commit does. What is mounted as it is and pinned has that digest once its
    revision `serves`: nothing of another was started.
    """
    told = before.get("model", {})
    known = {key: told[key] for key in ("digest", "verifiedAt") if key in told}
    commit = outlook.inspection.commit if isinstance(outlook, Known) else told_before(before, spec).get("revision")
    if commit:
        known = known if told.get("revision") == commit else {}
    elif spec.digest is None or known.get("digest") != spec.digest:
        known = {}
    found = outlook.digest if isinstance(outlook, Known) else ""
    if not commit and spec.digest is not None and serves:
        found = spec.digest
    if found and found != known.get("digest"):
        return {"digest": found, "verifiedAt": timestamp(now)}
    return known


def told_before(before: Mapping[str, Any], spec: OpenModelSpec) -> Manifest:
    """What is known of a model that was fetched to where pods mount it, also while its inspection is not known."""
    told = before.get("model", {})
    if not spec.source.endswith(f"/{told.get('revision')}"):
        return {}
    return {key: value for key, value in told.items() if key in ("revision", "download")}


def model_facts(inspection: Inspection, come: Fetched | None = None) -> Manifest:
    """`model`, as far as the checkpoint's headers tell, and how much of it has come."""
    fetched: Manifest = {}
    if inspection.commit:
        come = come or Fetched(0, inspection.download_bytes)
        fetched = {"revision": inspection.commit, "download": {"bytes": come.count, "total": come.total}}
    return {
        "architecture": inspection.architecture,
        "parameters": inspection.parameters,
        "activeParameters": inspection.active_parameters,
        "license": inspection.license,
        **fetched,
    }


def _reason(plan: GroupPlan, outlook: Known) -> str:
    return f"{plan.reason}: {outlook.memory.reason}"


def _bill(bill: MemoryBill) -> Manifest:
    return {
        "weights": bill.weights,
        "kvCache": bill.kv_cache,
        "activations": bill.activations,
        "exchange": bill.exchange,
        "failover": bill.failover,
        "reserved": bill.reserved,
    }
