"""What to apply and what to delete now.

Groups of a new revision come beside the old ones; when all of them are proven the Service moves, and the old ones go
and drain; or, where that is asked for, the old ones go first. At zero replicas a revision that was never proven gets
one group for its proof.
Pure: every step follows from what is observed, so it may be cut off anywhere and go on after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openmodel_operator import names
from openmodel_operator.desired.disruption_budget import disruption_budget
from openmodel_operator.desired.group import group_manifests
from openmodel_operator.desired.identity import Identity, content_hash, group_name
from openmodel_operator.desired.network_policy import network_policy
from openmodel_operator.desired.pod import pod_template
from openmodel_operator.desired.service import model_service, pods_that_answer
from openmodel_operator.golden_prompts import Verification
from openmodel_operator.observed import Observed
from openmodel_operator.plan import GroupPlan
from openmodel_operator.spec import Manifest, OpenModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionPlan:
    """One step towards the spec."""

    revision: str
    """The revision that the spec asks for."""
    serving: str
    """The revision that the Service selects after this step."""
    groups: int
    """Groups of the revision that should exist."""
    present: int
    """Groups of all revisions that are there after this step."""
    complete: bool
    """All of them have answered a real inference."""
    verification: Verification | None = None
    """Of the revision, where that was asked for now."""
    apply: Sequence[Manifest]
    """Manifests to apply, in order."""
    upkeep: Sequence[Manifest] = ()
    """Of those, what leads to what serves already, whatever becomes of the spec."""
    later: Sequence[Manifest] = ()
    """What will be applied once something serves: its names have to be free by then."""
    delete: Sequence[Manifest]
    """Children to delete."""
    reason: str


def plan_actions(
    identity: Identity,
    spec: OpenModelSpec,
    plan: GroupPlan,
    observed: Observed,
    image: str,
    verification: Verification | None = None,
) -> ActionPlan:
    """The next step; where golden prompts are given, a revision does not begin to serve before its verification."""
    template = pod_template(identity, spec, image)
    revision = content_hash(template)
    before = observed.serving_revision()
    groups = _wanted_groups(spec, proven=before == revision)
    proven = observed.proven_groups(revision)
    complete = groups > 0 and proven >= groups
    verified = spec.verify is None or (verification is not None and verification.moves)
    paused = is_paused(spec, revision, before)
    serving = revision if complete and verified and not paused else before
    selector = pods_that_answer(identity, spec, serving)
    if serving != revision and observed.service is not None:
        # What another spec made stays as that made it.
        there = observed.service.get("spec", {}).get("selector") or {}
        selector = there if names.REVISION_LABEL in there else selector
    service = model_service(identity, selector)
    budget, later = _budget(identity, serving)
    upkeep = [service, *budget] if serving == before != names.NO_REVISION else []
    if paused:
        return _as_it_is(identity, spec, observed, revision, serving, upkeep)
    # A name that is taken is most likely the Service's: it comes first.
    apply = [service, network_policy(identity, spec.telemetry), *budget]
    for index in range(groups):
        apply += group_manifests(identity, template, revision, index, plan)
    keep = {group_name(identity.name, revision, index) for index in range(groups)}
    if serving != revision and not spec.suspend and not spec.recreate:
        keep |= {_name(child) for child in observed.groups() if _revision(child) == serving}
    delete = [child for child in observed.groups() if _name(child) not in keep]
    return ActionPlan(
        revision=revision,
        serving=serving,
        groups=groups,
        present=len({*map(_name, observed.stateful_sets), *keep} - {*map(_name, delete)}),
        complete=complete,
        verification=verification,
        apply=apply,
        upkeep=upkeep,
        later=later,
        delete=delete,
        reason=_reason(revision, serving, groups, proven),
    )


def is_paused(spec: OpenModelSpec, revision: str, serving: str) -> bool:
    """Whether a revision waits for the user to go on."""
    return spec.paused and not spec.suspend and serving != revision


def _as_it_is(
    identity: Identity, spec: OpenModelSpec, observed: Observed, revision: str, serving: str, upkeep: Sequence[Manifest]
) -> ActionPlan:
    """Nothing is moved or removed, and nothing made but what leads to what serves."""
    groups = sum(_revision(item) == revision for item in observed.stateful_sets)
    what = "nothing serves" if serving == names.NO_REVISION else f"revision {serving} stays"
    return ActionPlan(
        revision=revision,
        serving=serving,
        groups=groups,
        present=len(observed.stateful_sets),
        complete=False,
        apply=[*upkeep, network_policy(identity, spec.telemetry)],
        delete=[],
        reason=f"spec.rollout.paused is true: {what}, and revision {revision} waits",
    )


def _budget(identity: Identity, serving: str) -> tuple[list[Manifest], list[Manifest]]:
    """The disruption budget, to be applied now or later: nothing is kept from ending before something serves."""
    budget = [disruption_budget(identity, serving)]
    return ([], budget) if serving == names.NO_REVISION else (budget, [])


def _wanted_groups(spec: OpenModelSpec, *, proven: bool) -> int:
    if spec.suspend:
        return 0
    return spec.replicas if proven else max(1, spec.replicas)


def _reason(revision: str, serving: str, groups: int, proven: int) -> str:
    if serving == revision:
        return f"revision {revision}: {proven} of {groups} groups answered"
    if serving == names.NO_REVISION:
        return f"revision {revision} starts: {proven} of {groups} groups answered"
    return f"revision {serving} serves until revision {revision} does: {proven} of {groups} groups answered"


def _name(child: Manifest) -> str:
    return str(child["metadata"]["name"])


def _revision(child: Manifest) -> str:
    return str(child["metadata"]["labels"].get(names.REVISION_LABEL, ""))
