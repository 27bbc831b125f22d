"""One OpenModel, looked at once: observe, decide, execute, tell.

Level-triggered: it starts from what is there and may be cut off anywhere. Knows the order of things; what to do is
decided in pure modules, and how to talk to the cluster is `kube`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from openmodel_operator import names
from openmodel_operator.admission import refusals, router_refusals
from openmodel_operator.cluster import Cluster, ModelKey, NameTaken
from openmodel_operator.cold_routes import ColdRoutes
from openmodel_operator.conditions import is_true, readiness
from openmodel_operator.desired.fetch_jobs import as_mounted
from openmodel_operator.desired.identity import Identity
from openmodel_operator.events import capture_event, transition_event
from openmodel_operator.fetcher import Fetcher
from openmodel_operator.gate import is_to_start, known_commit
from openmodel_operator.group_status import refused_shrink
from openmodel_operator.inspector import Inspector
from openmodel_operator.job_progress import Underway
from openmodel_operator.kube import KubeError
from openmodel_operator.observed import Observed
from openmodel_operator.observer import Observer
from openmodel_operator.outlook import Blocked, Known, Outlook
from openmodel_operator.plan import plan_group
from openmodel_operator.plan_check import actual_over_planned
from openmodel_operator.probe import Probes
from openmodel_operator.reasons import ConditionType, Reason
from openmodel_operator.recorded_jobs import RecordedJobs
from openmodel_operator.rollout import ActionPlan, plan_actions
from openmodel_operator.scaling.autoscaler import Autoscaler
from openmodel_operator.scaling.history import scaling_status
from openmodel_operator.settings import Settings
from openmodel_operator.spec import Manifest, OpenModelSpec, SpecError, parse_spec
from openmodel_operator.status import blocked_status, model_status, underway_status
from openmodel_operator.status_patch import status_patch
from openmodel_operator.verifier import Verifier


class Controller:
    """Brings OpenModels about, one look at a time."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        probes: Probes,
        observer: Observer,
        autoscaler: Autoscaler,
        routes: ColdRoutes,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._routes = routes
        self._autoscaler = autoscaler
        self._observer = observer
        self._jobs = RecordedJobs(cluster)
        self._inspector = Inspector(self._jobs, settings.runtime_image)
        self._verifier = Verifier(cluster, probes.complete)
        self._fetcher = Fetcher(cluster, self._jobs, settings)
        self.plan_ratios: dict[ModelKey, dict[str, float]] = {}
        """What ranks have by what was planned, by category of memory."""
        self.readiness: dict[ModelKey, tuple[str, str]] = {}
        """Status and reason of the condition Ready."""
        self.underway: set[ModelKey] = set()
        """Models that are not yet as they are to be, and need nothing from the user."""
        self.scaled: set[ModelKey] = set()
        """Models that have groups whose count is decided here."""

    async def reconcile(self, key: ModelKey) -> None:
        """One look; KubeError when the API server is away, which is a reason to look again."""
        model = self._cluster.model(*key)
        if model is None or "deletionTimestamp" in model["metadata"]:
            # Owner references do the cleaning.
            for keeper in (self._observer, self._jobs, self._inspector, self._verifier, self._autoscaler, self._routes):
                keeper.forget(*key)
            self.plan_ratios.pop(key, None)
            self.readiness.pop(key, None)
            self.underway.discard(key)
            self.scaled.discard(key)
            return
        status = await self._look(key, model)
        self.readiness[key] = readiness(status)
        reconciling = is_true(status, ConditionType.RECONCILING)
        (self.underway.add if reconciling else self.underway.discard)(key)
        await self._tell(model, status)

    def waiting_for(self, job: str) -> set[ModelKey]:
        """Models that wait for a Job of this name."""
        return self._jobs.waiting_for(job)

    async def _look(self, key: ModelKey, model: Manifest) -> Manifest:
        """The status that a look comes to."""
        metadata = model["metadata"]
        identity = Identity(metadata["namespace"], metadata["name"], metadata["uid"])
        before, generation = model.get("status", {}), metadata["generation"]
        told = before.get("rollout", {}).get("revision", names.NO_REVISION)
        observed = replace(await self._observer.observe(identity), told_revision=told)
        spec = _admit(model["spec"], self._settings)
        if isinstance(spec, Blocked):
            self.scaled.discard(key)
            await self._routes.keep(identity, None, observed)
            return blocked_status(before, generation, spec, _now())
        scaling = await self._autoscaler.scale(identity, model, spec, observed)
        if scaling is not None:
            spec = replace(spec, replicas=scaling.decision.replicas)
        (self.scaled.add if scaling is not None and spec.replicas else self.scaled.discard)(key)
        status = await self._step(key, model, identity, spec, observed)
        if status is None:
            return await self._once_more(key, model)
        return status if scaling is None else scaling_status(status, before, scaling, generation, _now())

    async def _step(
        self, key: ModelKey, model: Manifest, identity: Identity, spec: OpenModelSpec, observed: Observed
    ) -> Manifest | None:
        """The status after one step towards the spec; None when that took so long that all has to be seen anew."""
        before, generation = model.get("status", {}), model["metadata"]["generation"]
        await self._routes.keep(identity, spec, observed)
        outlook = await self._inspector.outlook(identity, spec)
        plan, wanted = plan_group(spec), spec
        if spec.is_fetched and (commit := known_commit(outlook, before, generation)):
            spec = as_mounted(spec, commit)
        image = self._settings.runtime_image
        actions = plan_actions(identity, spec, plan, observed, image)
        if is_to_start(wanted, actions, observed, plan, outlook, before):
            # Nothing is asked of the cluster for what may not fit, or is not here yet.
            looked = await self._made_ready(identity, wanted, outlook)
            if not isinstance(looked, Known):
                await self._execute(replace(actions, apply=actions.upkeep, later=(), delete=()))
            if isinstance(looked, Underway):
                return underway_status(before, generation, looked, plan, outlook, _now())
            if isinstance(looked, Blocked):
                return blocked_status(before, generation, looked, _now())
            outlook = looked
        if spec.verify is not None and actions.complete and actions.serving != actions.revision:
            verification, fresh = await self._verifier.verify(identity, spec.verify, actions, observed)
            if fresh:
                return None
            actions = plan_actions(identity, spec, plan, observed, image, verification)
        shrink = refused_shrink(plan, observed.reports_of(actions.revision)) if actions.groups else None
        if shrink is not None:
            return blocked_status(before, generation, Blocked(Reason.INSUFFICIENT_MEMORY, shrink, False), _now())
        blocked = await self._execute(self._routes.with_route(actions, identity, spec, observed))
        if blocked is not None:
            return blocked_status(before, generation, blocked, _now())
        self._check_plan(key, spec, outlook, observed.proven_facts(actions.revision))
        return model_status(identity, spec, plan, actions, observed, outlook, before, generation, _now())

    async def _once_more(self, key: ModelKey, seen: Manifest) -> Manifest:
        model = self._cluster.model(*key)
        return dict(seen.get("status", {})) if model is None else await self._look(key, model)

    async def _made_ready(self, identity: Identity, spec: OpenModelSpec, outlook: Outlook) -> Outlook:
        """What is known once pods can mount the checkpoint; until then what is waited for, or in the way."""
        if not isinstance(outlook, Known):
            return outlook
        if spec.verify is not None and (wrong := await self._verifier.invalid(identity, spec.verify)):
            return Blocked(Reason.GOLDEN_PROMPTS_INVALID, wrong, planned=True)
        if not spec.is_fetched:
            return outlook if spec.digest is None else await self._verified(identity, spec, outlook, spec.digest)
        digest = await self._fetcher.fetched(identity, spec, outlook.inspection)
        if not isinstance(digest, str):
            return digest
        if spec.digest not in (None, digest):
            told = f"spec.model.digest: the checkpoint that was fetched has {digest}: nothing of it is served"
            return Blocked(Reason.DIGEST_MISMATCH, told, planned=False, inspection=outlook.inspection)
        return replace(outlook, digest=digest)

    async def _verified(self, identity: Identity, spec: OpenModelSpec, outlook: Known, digest: str) -> Outlook:
        found = await self._fetcher.verified(identity, spec, digest)
        return replace(outlook, digest=found) if isinstance(found, str) else found

    def _check_plan(self, key: ModelKey, spec: OpenModelSpec, outlook: Outlook, facts: Mapping[str, str]) -> None:
        if isinstance(outlook, Known) and facts:
            known = spec.memory_bytes is not None
            self.plan_ratios[key] = actual_over_planned(outlook.memory.bill, facts, memory_known=known)

    async def _execute(self, actions: ActionPlan) -> Blocked | None:
        """Applies and deletes; says why nothing, or not all, was done when only a change by the user helps."""
        try:
            for manifest in actions.later:
                await self._cluster.check_name(manifest)
            for manifest in actions.apply:
                await self._cluster.apply(manifest)
        except NameTaken as error:
            return Blocked(Reason.NAME_TAKEN, str(error), planned=True)
        except KubeError as error:
            if not error.permanent:
                raise
            return Blocked(Reason.APPLY_REJECTED, f"the API server refused: {error}", planned=True)
        for child in actions.delete:
            await self._cluster.delete(child)
        return None

    async def _tell(self, model: Manifest, status: Manifest) -> None:
        before: dict[str, Any] = model.get("status", {})
        patch = status_patch(before, status)
        if not patch:
            return
        await self._cluster.patch_status(model, patch)
        # The one that matters more first: what is lost on the way is not told again.
        for event in (capture_event(model, before, status, _now()), transition_event(model, before, status, _now())):
            if event is not None:
                await self._cluster.create_event(event)


def _admit(raw: dict[str, Any], settings: Settings) -> OpenModelSpec | Blocked:
    refused = (*refusals(raw), *(() if settings.router_service else router_refusals(raw)))
    if refused:
        text = "; ".join(refusal.message for refusal in refused)
        return Blocked(Reason.UNSUPPORTED_FIELD, text, planned=False)
    try:
        return parse_spec(raw)
    except SpecError as error:
        return Blocked(Reason.INVALID_SPEC, str(error), planned=False)


def _now() -> datetime:
    return datetime.now(UTC)
