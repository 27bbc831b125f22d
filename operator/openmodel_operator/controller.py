"""One OpenModel, looked at once: observe, decide, execute, tell.

Level-triggered: it starts from what is there and may be cut off anywhere. Knows the order of things; what to do is
decided in pure modules, and how to talk to the cluster is `kube`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from openmodel_operator import names
from openmodel_operator.admission import refusals
from openmodel_operator.desired.fetch_jobs import as_mounted
from openmodel_operator.desired.identity import Identity
from openmodel_operator.events import transition_event
from openmodel_operator.fetcher import Fetcher
from openmodel_operator.gate import is_to_start, known_commit
from openmodel_operator.group_report import GroupReport
from openmodel_operator.group_status import refused_shrink
from openmodel_operator.inspector import Inspector
from openmodel_operator.job_progress import Underway
from openmodel_operator.kube import Kube, KubeError
from openmodel_operator.observed import Observed, Proof, is_ready, proof_key
from openmodel_operator.outlook import Blocked, Known, Outlook
from openmodel_operator.plan import plan_group
from openmodel_operator.plan_check import actual_over_planned
from openmodel_operator.reasons import Reason
from openmodel_operator.recorded_jobs import RecordedJobs
from openmodel_operator.rollout import ActionPlan, plan_actions
from openmodel_operator.settings import Settings
from openmodel_operator.spec import Manifest, OpenModelSpec, SpecError, parse_spec
from openmodel_operator.status import blocked_status, model_status, underway_status
from openmodel_operator.status_patch import status_patch
from openmodel_operator.verifier import Complete, Verifier

_log = logging.getLogger(__name__)
ModelKey = tuple[str, str]
"""Namespace and name."""
Prove = Callable[[str, str, str], Awaitable[Proof]]
"""Address, model and revision to a proof."""
AskGroup = Callable[[str], Awaitable[GroupReport | None]]
"""Address to what the pod says of its group."""


class Controller:
    """Brings OpenModels about, one look at a time."""

    def __init__(self, kube: Kube, settings: Settings, prove: Prove, ask_group: AskGroup, complete: Complete) -> None:
        self._kube = kube
        self._settings = settings
        self._prove = prove
        self._ask_group = ask_group
        self._jobs = RecordedJobs(kube)
        self._inspector = Inspector(self._jobs, settings.runtime_image)
        self._verifier = Verifier(kube, complete)
        self._fetcher = Fetcher(kube, self._jobs, settings)
        self._proofs: dict[ModelKey, dict[str, Proof]] = {}
        self.plan_ratios: dict[ModelKey, dict[str, float]] = {}
        """What ranks have by what was planned, by category of memory."""

    async def reconcile(self, key: ModelKey) -> None:
        """One look; KubeError when the API server is away, which is a reason to look again."""
        model = await self._kube.get(names.API_VERSION, names.KIND, *key)
        if model is None or "deletionTimestamp" in model["metadata"]:
            # Owner references do the cleaning.
            self._proofs.pop(key, None)
            self._inspector.forget(*key)
            self._verifier.forget(*key)
            self.plan_ratios.pop(key, None)
            return
        status = await self._step(key, model)
        await self._tell(model, status)

    def waiting_for(self, job: str) -> set[ModelKey]:
        """Models that wait for a Job of this name."""
        return self._jobs.waiting_for(job)

    async def _step(self, key: ModelKey, model: Manifest) -> Manifest:
        metadata = model["metadata"]
        identity = Identity(metadata["namespace"], metadata["name"], metadata["uid"])
        before, generation = model.get("status", {}), metadata["generation"]
        observed = await self._observe(key, identity)
        spec = _admit(model["spec"])
        if isinstance(spec, Blocked):
            return blocked_status(before, generation, spec, _now())
        outlook = await self._inspector.outlook(identity, spec)
        plan, wanted = plan_group(spec), spec
        if spec.is_fetched and (commit := known_commit(outlook, before, generation)):
            spec = as_mounted(spec, commit)
        image = self._settings.runtime_image
        actions = plan_actions(identity, spec, plan, observed, image)
        if is_to_start(wanted, actions, observed, plan, outlook, before):
            # Nothing is asked of the cluster for what may not fit, or is not here yet.
            looked = await self._made_ready(identity, wanted, outlook)
            if isinstance(looked, Underway):
                return underway_status(before, generation, looked, plan, outlook, _now())
            if isinstance(looked, Blocked):
                return blocked_status(before, generation, looked, _now())
            outlook = looked
        if spec.verify is not None and actions.complete and actions.serving != actions.revision:
            verification, fresh = await self._verifier.verify(identity, spec.verify, actions, observed)
            if fresh:
                # That took a while: what it means is decided on what is there now.
                return await self._once_more(key, before)
            actions = plan_actions(identity, spec, plan, observed, image, verification)
        shrink = refused_shrink(plan, observed.reports_of(actions.revision)) if actions.groups else None
        if shrink is not None:
            return blocked_status(before, generation, Blocked(Reason.INSUFFICIENT_MEMORY, shrink, False), _now())
        blocked = await self._execute(identity, actions, observed)
        if blocked is not None:
            return blocked_status(before, generation, blocked, _now())
        self._check_plan(key, spec, outlook, observed.proven_facts(actions.revision))
        return model_status(identity, spec, plan, actions, observed, outlook, before, generation, _now())

    async def _once_more(self, key: ModelKey, before: Manifest) -> Manifest:
        model = await self._kube.get(names.API_VERSION, names.KIND, *key)
        return dict(before) if model is None else await self._step(key, model)

    async def _made_ready(self, identity: Identity, spec: OpenModelSpec, outlook: Outlook) -> Outlook:
        """What is known once pods can mount the checkpoint; until then what is waited for, or in the way."""
        if not isinstance(outlook, Known):
            return outlook
        if spec.verify is not None and (wrong := await self._verifier.invalid(identity, spec.verify)):
            return Blocked(Reason.GOLDEN_PROMPTS_INVALID, wrong, planned=True)
        if not spec.is_fetched:
            return outlook
        digest = await self._fetcher.fetched(identity, spec, outlook.inspection)
        if not isinstance(digest, str):
            return digest
        if spec.digest not in (None, digest):
            told = f"spec.model.digest: the checkpoint that was fetched has {digest}: nothing of it is served"
            return Blocked(Reason.DIGEST_MISMATCH, told, planned=False, inspection=outlook.inspection)
        return replace(outlook, digest=digest)

    def _check_plan(self, key: ModelKey, spec: OpenModelSpec, outlook: Outlook, facts: Mapping[str, str]) -> None:
        if isinstance(outlook, Known) and facts:
            known = spec.memory_bytes is not None
            self.plan_ratios[key] = actual_over_planned(outlook.memory.bill, facts, memory_known=known)

    async def _observe(self, key: ModelKey, identity: Identity) -> Observed:
        namespace, labels = identity.namespace, identity.selector()
        policies, budgets, services, stateful_sets, config_maps, pods = await asyncio.gather(
            self._kube.list("networking.k8s.io/v1", "NetworkPolicy", namespace, labels),
            self._kube.list("policy/v1", "PodDisruptionBudget", namespace, labels),
            self._kube.list("v1", "Service", namespace, labels),
            self._kube.list("apps/v1", "StatefulSet", namespace, labels),
            self._kube.list("v1", "ConfigMap", namespace, labels),
            self._kube.list("v1", "Pod", namespace, labels),
        )
        owned = [item for item in services if _owned_by(item, identity.uid)]
        stateful_sets = [item for item in stateful_sets if _owned_by(item, identity.uid)]
        # Labels anybody can write; a pod counts that a StatefulSet of ours made.
        makers = [item["metadata"]["uid"] for item in stateful_sets]
        pods = [pod for pod in pods if _owned_by(pod, *makers)]
        seen = Observed(
            service=next((item for item in owned if item["metadata"]["name"] == identity.name), None),
            network_policies=[item for item in policies if _owned_by(item, identity.uid)],
            disruption_budgets=[item for item in budgets if _owned_by(item, identity.uid)],
            stateful_sets=stateful_sets,
            config_maps=[item for item in config_maps if _owned_by(item, identity.uid)],
            headless_services=[item for item in owned if item["metadata"]["name"] != identity.name],
            pods=pods,
            proofs=await self._prove_pods(key, identity, pods),
        )
        return replace(seen, reports=await self._ask_groups(seen))

    async def _ask_groups(self, seen: Observed) -> dict[str, GroupReport]:
        """What groups that share experts say of themselves; any of their pods may answer for the others."""

        async def ask(group: Manifest) -> GroupReport | None:
            for pod in seen.running_pods(group):
                # One that has no rank just now, or does not see the others, knows nothing.
                report = await self._ask_group(pod["status"]["podIP"])
                if report is not None and report.experts:
                    return report
            return None

        reports = await asyncio.gather(*map(ask, seen.config_maps))
        named = zip(seen.config_maps, reports, strict=True)
        return {group["metadata"]["name"]: report for group, report in named if report is not None}

    async def _prove_pods(self, key: ModelKey, identity: Identity, pods: list[Manifest]) -> dict[str, Proof]:
        """Proofs of all ready first pods: those known to be good, and new ones for the rest."""
        known = self._proofs.get(key, {})
        ready = {proof_key(pod): pod for pod in pods if is_ready(pod) and _is_first(pod)}
        fresh = [item for item in ready if item not in known or not known[item].ok]
        results = await asyncio.gather(
            *(
                self._prove(
                    ready[item]["status"]["podIP"],
                    identity.name,
                    ready[item]["metadata"]["labels"][names.REVISION_LABEL],
                )
                for item in fresh
            )
        )
        proofs = {item: known[item] for item in ready if item in known}
        proofs |= dict(zip(fresh, results, strict=True))
        self._proofs[key] = proofs
        return proofs

    async def _execute(self, identity: Identity, actions: ActionPlan, observed: Observed) -> Blocked | None:
        """Applies and deletes; says why nothing, or not all, was done when only a change by the user helps."""
        taken = await self._taken_name(identity, actions, observed)
        if taken is not None:
            return taken
        try:
            for manifest in actions.apply:
                await self._kube.apply(manifest)
        except KubeError as error:
            if not error.permanent:
                raise
            return Blocked(Reason.APPLY_REJECTED, f"the API server refused: {error}", planned=True)
        for child in actions.delete:
            _log.info("deleting %s %s", child["kind"], child["metadata"]["name"])
            await self._kube.delete(child)
        return None

    async def _taken_name(self, identity: Identity, actions: ActionPlan, observed: Observed) -> Blocked | None:
        """An object of somebody else's under a name that a child needs: it is never taken over."""
        ours = {(child["kind"], child["metadata"]["name"]) for child in observed.children()}
        for manifest in actions.apply:
            kind, name = manifest["kind"], manifest["metadata"]["name"]
            if (kind, name) in ours:
                continue
            found = await self._kube.get(manifest["apiVersion"], kind, identity.namespace, name)
            if found is not None and not _owned_by(found, identity.uid):
                return Blocked(
                    Reason.NAME_TAKEN,
                    f"metadata.name: a {kind} {name} that is not this OpenModel's is there, and is left alone; "
                    f"give the OpenModel another name or delete the {kind}",
                    planned=True,
                )
        return None

    async def _tell(self, model: Manifest, status: Manifest) -> None:
        before: dict[str, Any] = model.get("status", {})
        patch = status_patch(before, status)
        if not patch:
            return
        await self._kube.patch_status(model, patch)
        event = transition_event(model, before, status, _now())
        if event is not None:
            await self._kube.create_event(event)


def _admit(raw: dict[str, Any]) -> OpenModelSpec | Blocked:
    refused = refusals(raw)
    if refused:
        text = "; ".join(refusal.message for refusal in refused)
        return Blocked(Reason.UNSUPPORTED_FIELD, text, planned=False)
    try:
        return parse_spec(raw)
    except SpecError as error:
        return Blocked(Reason.INVALID_SPEC, str(error), planned=False)


def _owned_by(child: Manifest, *uids: str) -> bool:
    owners = child["metadata"].get("ownerReferences", [])
    return any(owner["uid"] in uids for owner in owners)


def _is_first(pod: Manifest) -> bool:
    return bool(pod["metadata"]["labels"].get(names.POD_INDEX_LABEL) == "0")


def _now() -> datetime:
    return datetime.now(UTC)
