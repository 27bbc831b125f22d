"""What the user is told: `status` of an OpenModel from what was observed and decided.

Pure; the clock is an argument. `Ready` says that a real inference of the spec's own revision went through on every
serving group; `Stalled` says that only a change by the user helps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from openmodel_operator import names
from openmodel_operator.admitted_status import NO_POLICY, AdmittedVerdict, admitted_verdict
from openmodel_operator.cold_start import cold_start
from openmodel_operator.conditions import Verdict, merge_conditions, timestamp
from openmodel_operator.desired.identity import Identity
from openmodel_operator.desired.service import endpoint
from openmodel_operator.effective import effective_values, strategy
from openmodel_operator.failure_status import told_failure
from openmodel_operator.failures import Failure, worst_failure
from openmodel_operator.group_status import (
    CoverageVerdict,
    coverage_verdict,
    experts_status,
    lacking_experts,
    survives,
)
from openmodel_operator.job_progress import Fetched, Underway
from openmodel_operator.observed import Observed, is_ready, proof_key
from openmodel_operator.outlook import Blocked, Known, Outlook
from openmodel_operator.plan import GroupPlan
from openmodel_operator.plan_status import (
    PlannedVerdict,
    model_facts,
    plan_status,
    planned_verdict,
    told_before,
    verified_facts,
)
from openmodel_operator.reasons import ConditionType, Reason
from openmodel_operator.rollout import ActionPlan, is_paused
from openmodel_operator.spec import Manifest, OpenModelSpec
from openmodel_operator.verification_status import verification_status, verified_verdict


def blocked_status(before: Mapping[str, Any], generation: int, blocked: Blocked, now: datetime) -> Manifest:
    """Status of an OpenModel for whose spec nothing is built: what an earlier spec brought about stands."""
    verdicts = _verdicts(
        ready=(False, blocked.reason, blocked.message),
        stalled=(True, blocked.reason, blocked.message) if blocked.terminal else None,
        planned=(True, Reason.PLAN_MADE, "planned") if blocked.planned else (False, blocked.reason, blocked.message),
        loaded=None,
        covered=coverage_verdict({}, serving=False),
        reconciling=blocked.message,
    )
    status = _status_that_stands(before, generation, verdicts, now)
    if blocked.inspection is not None:
        known, facts = before.get("model", {}), model_facts(blocked.inspection)
        status["model"] = {**(known if known.get("revision") == facts.get("revision") else {}), **facts}
    return status | told_failure(blocked.failure, before, now)


def underway_status(
    before: Mapping[str, Any], generation: int, job: Underway, plan: GroupPlan, outlook: Outlook, now: datetime
) -> Manifest:
    """Status of an OpenModel whose checkpoint is being inspected or fetched, for the first time or again."""
    failure = job.failure
    if failure is None and before.get("observedGeneration") == generation and _failed_before(before, job):
        # It is tried again, with no news yet.
        return dict(before)
    what = (job.reason, job.message) if failure is None else (failure.reason, failure.message)
    verdicts = _verdicts(
        ready=(False, *what),
        stalled=(True, *what) if failure is not None and failure.terminal else None,
        planned=planned_verdict(plan, outlook),
        loaded=(False, *what) if job.reason is Reason.FETCHING else None,
        covered=coverage_verdict({}, serving=False),
        reconciling=job.message,
    )
    status = _status_that_stands(before, generation, verdicts, now) | told_failure(failure, before, now)
    if isinstance(outlook, Known):
        status |= {"plan": plan_status(plan, outlook), "model": model_facts(outlook.inspection, job.fetched)}
    return status


def _status_that_stands(
    before: Mapping[str, Any], generation: int, verdicts: Sequence[Verdict], now: datetime
) -> Manifest:
    """The old status with new conditions, but for those about what serves."""
    conditions = merge_conditions(before.get("conditions", []), verdicts, generation, timestamp(now))
    kept = {item["type"]: item for item in before.get("conditions", []) if item["type"] in _ABOUT_WHAT_SERVES}
    return {
        **before,
        "observedGeneration": generation,
        "conditions": [kept.get(item["type"], item) for item in conditions],
    }


def _failed_before(status: Mapping[str, Any], job: Underway) -> bool:
    """Whether the status tells how a Job of this kind failed for good."""
    told = {item["type"]: (item["status"], item["reason"]) for item in status.get("conditions", [])}
    stalled, planned = told.get(ConditionType.STALLED), told.get(ConditionType.PLANNED)
    if stalled is None or planned is None or stalled[0] != "True" or stalled[1] not in _VERDICTS_OF_JOBS:
        return False
    # A fetch comes after the plan.
    return bool(planned[0] == "False") == (job.reason is Reason.INSPECTING)


def model_status(
    identity: Identity,
    spec: OpenModelSpec,
    plan: GroupPlan,
    actions: ActionPlan,
    observed: Observed,
    outlook: Outlook,
    before: Mapping[str, Any],
    generation: int,
    now: datetime,
) -> Manifest:
    """Status of an OpenModel that was planned and applied."""
    pods = observed.pods_of(actions.revision)
    failure = worst_failure(pods, spec.source, observed.complaints_of(actions.revision))
    proven = observed.proven_groups(actions.revision)
    reports = observed.reports_of(actions.revision)
    verification = actions.verification
    held = verification if verification is not None and not verification.moves else None
    ready = (False, held.reason, held.message) if held else _ready(spec, actions, observed, failure, proven)
    stuck = (True, failure.reason, failure.message) if failure is not None and failure.terminal else None
    if held is not None and held.verified is False:
        stuck = (True, held.reason, held.message)
    verdicts = _verdicts(
        ready=ready,
        stalled=stuck,
        planned=planned_verdict(plan, outlook),
        loaded=_loaded(actions, proven),
        covered=coverage_verdict(reports, serving=ready[0]),
        verified=verified_verdict(spec, actions, before),
        admitted=admitted_verdict(
            spec.telemetry,
            before,
            paused=is_paused(spec, actions.revision, actions.serving),
            settled=not observed.stateful_sets or (actions.serving == actions.revision and _alone(actions, observed)),
        ),
        settled=ready[0] and proven == spec.replicas and _alone(actions, observed),
        reconciling=actions.reason,
    )
    status: Manifest = {
        "observedGeneration": generation,
        "effective": effective_values(spec),
        "conditions": merge_conditions(before.get("conditions", []), verdicts, generation, timestamp(now)),
        "plan": {**plan_status(plan, outlook), **survives(reports)},
        "replicas": actions.present,
        "readyReplicas": observed.proven_groups(actions.serving),
        "selector": _selector(identity, actions.serving),
        "endpoint": endpoint(identity),
        "rollout": {
            "revision": actions.serving,
            "strategy": strategy(spec),
            "strategyReason": _STRATEGY_REASONS[strategy(spec)],
            **verification_status(spec, actions, before),
        },
    }
    status |= _model_facts(before, observed, pods) | experts_status(before, reports)
    told = {key: value for key, value in status.pop("model", {}).items() if key not in ("digest", "verifiedAt")}
    if isinstance(outlook, Known):
        # A change that is paused has not been fetched.
        here = outlook.digest or actions.serving == actions.revision
        whole = Fetched(outlook.inspection.download_bytes, outlook.inspection.download_bytes) if here else None
        told |= model_facts(outlook.inspection, whole)
    else:
        told |= told_before(before, spec)
    told |= verified_facts(before, spec, outlook, now, serves=actions.serving == actions.revision)
    return status | ({"model": told} if told else {}) | told_failure(failure, before, now)


_Verdict = tuple[bool, Reason, str]
_STRATEGY_REASONS = {
    "Surge": "groups of a new revision start beside the old ones",
    "Recreate": "as asked for: the old groups go before new ones serve, and calls fail meanwhile",
}
_VERDICTS_OF_JOBS = frozenset(
    {Reason.INVALID_CHECKPOINT, Reason.UNSUPPORTED_MODEL, Reason.SOURCE_REFUSED, Reason.DIGEST_MISMATCH}
)
_ABOUT_WHAT_SERVES = frozenset(
    {
        ConditionType.ADMITTED,
        ConditionType.WEIGHTS_READY,
        ConditionType.EXPERT_COVERAGE,
        ConditionType.ROLLOUT_VERIFIED,
    }
)


def _ready(
    spec: OpenModelSpec,
    actions: ActionPlan,
    observed: Observed,
    failure: Failure | None,
    proven: int,
) -> _Verdict:
    if spec.suspend:
        return False, Reason.SUSPENDED, "spec.suspend is true: there are no pods"
    if is_paused(spec, actions.revision, actions.serving):
        return False, Reason.PAUSED, actions.reason
    if actions.serving == actions.revision and spec.replicas == 0:
        return True, Reason.SCALED_TO_ZERO, f"revision {actions.revision} answered before it was scaled to zero"
    if actions.serving == actions.revision and proven:
        return True, Reason.SERVING, f"a real inference went through on {proven} of {actions.groups} groups"
    if failure is not None:
        return False, failure.reason, failure.message
    if lacking := lacking_experts(observed.reports_of(actions.revision)):
        return False, Reason.EXPERTS_MISSING, lacking
    refused = [
        proof.message
        for pod in observed.pods_of(actions.revision)
        if (proof := observed.proofs.get(proof_key(pod))) and not proof.ok
    ]
    if refused:
        return False, Reason.PROBE_FAILED, f"the model is loaded, but a real inference failed: {refused[0]}"
    if actions.serving not in (actions.revision, names.NO_REVISION):
        return False, Reason.ROLLING_OUT, actions.reason
    return False, Reason.STARTING, actions.reason


def _alone(actions: ActionPlan, observed: Observed) -> bool:
    """Whether there are no groups but those that are wanted."""
    return not actions.delete and len(observed.stateful_sets) == actions.groups


def _loaded(actions: ActionPlan, proven: int) -> _Verdict | None:
    if proven or actions.serving == actions.revision:
        return True, Reason.LOADED, f"the checkpoint of revision {actions.revision} was loaded"
    return None


def _verdicts(
    *,
    ready: _Verdict,
    stalled: _Verdict | None,
    planned: PlannedVerdict,
    loaded: _Verdict | None,
    covered: CoverageVerdict,
    verified: CoverageVerdict = (None, Reason.NOT_REQUESTED, "no golden prompts were given"),
    admitted: AdmittedVerdict = NO_POLICY,
    settled: bool = False,
    reconciling: str = "",
) -> Sequence[Verdict]:
    at_rest = settled or stalled is not None or ready[1] in (Reason.SUSPENDED, Reason.PAUSED)
    return (
        Verdict(ConditionType.READY, *ready),
        Verdict(ConditionType.RECONCILING, False, Reason.SETTLED, "nothing is left to do")
        if at_rest
        else Verdict(ConditionType.RECONCILING, True, Reason.PROGRESSING, reconciling),
        Verdict(ConditionType.STALLED, *stalled)
        if stalled
        else Verdict(ConditionType.STALLED, False, Reason.NOT_STALLED, "nothing stands in the way"),
        Verdict(ConditionType.ADMITTED, *admitted),
        Verdict(ConditionType.PLANNED, *planned),
        Verdict(ConditionType.WEIGHTS_READY, *loaded)
        if loaded
        else Verdict(ConditionType.WEIGHTS_READY, None, Reason.NOT_LOADED, "no group has loaded the checkpoint yet"),
        Verdict(ConditionType.EXPERT_COVERAGE, *covered),
        Verdict(ConditionType.SCALING, True, Reason.AS_ASKED, "spec.replicas is followed as it is written"),
        Verdict(ConditionType.ROLLOUT_VERIFIED, *verified),
    )


def _selector(identity: Identity, revision: str) -> str:
    """One pod a group, so that an HPA's averages count groups."""
    return f"{names.MODEL_LABEL}={identity.name},{names.REVISION_LABEL}={revision},{names.POD_INDEX_LABEL}=0"


def _model_facts(before: Mapping[str, Any], observed: Observed, pods: Sequence[Manifest]) -> Manifest:
    """`model` and `coldStart` from the first proven pod; what is known stays known."""
    for pod in pods:
        proof = observed.proofs.get(proof_key(pod))
        if proof is not None and proof.ok and is_ready(pod):
            facts = proof.facts
            return {
                "model": {
                    "architecture": facts.get("architecture", ""),
                    "parameters": int(facts.get("parameters", 0)),
                    "activeParameters": int(facts.get("active_parameters", 0)),
                    "license": facts.get("license", ""),
                },
                "coldStart": cold_start(pod, proof.seconds, before.get("coldStart", {})),
            }
    return {key: before[key] for key in ("model", "coldStart") if key in before}
