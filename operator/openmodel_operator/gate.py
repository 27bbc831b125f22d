"""Whether something is to be started or checked, so that what is known of the checkpoint comes first.

Pure.
"""

from __future__ import annotations

import json

from openmodel_operator import names
from openmodel_operator.desired.group import told_to_group
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
    spec: OpenModelSpec,
    actions: ActionPlan,
    observed: Observed,
    plan: GroupPlan,
    outlook: Outlook,
    before: Manifest,
) -> bool:
    """Whether something is to be started that was not proven as it is to be now, or a digest that was not found yet."""
    if spec.suspend or is_paused(spec, actions.revision, actions.serving):
        return False
    if actions.serving != actions.revision:
        return True
    if isinstance(outlook, Blocked) and (
        outlook.reason is Reason.LICENSE_MISMATCH or _changes_groups(plan, observed, actions.revision)
    ):
        return True
    if spec.is_fetched and actions.groups and not observed.proven_groups(actions.revision):
        # Its claim may be gone.
        return True
    # Of what is mounted as it is, the digest is part of the revision.
    return spec.is_fetched and spec.digest is not None and before.get("model", {}).get("digest") != spec.digest


def _changes_groups(plan: GroupPlan, observed: Observed, revision: str) -> bool:
    """Whether live groups of the revision are to have other ranks or copies than they have been told."""
    groups = [item for item in observed.config_maps if item["metadata"]["labels"][names.REVISION_LABEL] == revision]
    return any(json.loads(group["data"][names.GROUP_SETTINGS]) != told_to_group(plan) for group in groups)
