"""Whether something is to be started or checked, so that what is known of the checkpoint comes first.

Pure.
"""

from __future__ import annotations

from openmodel_operator.group_status import changes_groups
from openmodel_operator.observed import Observed
from openmodel_operator.outlook import Blocked, Known, Outlook
from openmodel_operator.plan import GroupPlan
from openmodel_operator.reasons import Reason
from openmodel_operator.rollout import ActionPlan, is_paused
from openmodel_operator.spec import Manifest, OpenModelSpec


def known_commit(outlook: Outlook, before: Manifest, generation: int) -> str:
    """Of a fetched model: what was found, or was told of this very spec; "" when nothing was."""
    if isinstance(outlook, Known):
        return outlook.inspection.commit
    told = before.get("model", {}).get("revision", "")
    return str(told) if before.get("observedGeneration") == generation else ""


def is_to_start(
    spec: OpenModelSpec, actions: ActionPlan, observed: Observed, plan: GroupPlan, outlook: Outlook
) -> bool:
    """Whether something is to be started that was not proven as it is to be now."""
    if spec.suspend or is_paused(spec, actions.revision, actions.serving):
        return False
    if actions.serving != actions.revision:
        return True
    # Its claim may be gone.
    woken = spec.is_fetched and actions.groups and not observed.proven_groups(actions.revision)
    if isinstance(outlook, Blocked) and outlook.reason is Reason.LICENSE_MISMATCH:
        return True
    regrouped = isinstance(outlook, Blocked) and changes_groups(plan, observed, actions.revision)
    return bool(woken or regrouped)


def is_to_check(spec: OpenModelSpec, actions: ActionPlan, before: Manifest) -> bool:
    """Whether a digest is asked for that was not found yet."""
    if spec.suspend or is_paused(spec, actions.revision, actions.serving):
        return False
    return spec.digest is not None and before.get("model", {}).get("digest") != spec.digest
