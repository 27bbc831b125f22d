"""One snapshot of an OpenModel's children, and of what their pods say when they are asked.

Knows whom to ask, and whose word still stands; what it means is decided elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from openmodel_operator import names
from openmodel_operator.cluster import Cluster
from openmodel_operator.cold_start import cold_start, ready_since
from openmodel_operator.desired.identity import Identity, owned_by
from openmodel_operator.group_report import GroupReport
from openmodel_operator.observed import Observed, Proof, is_first, is_ready, proof_key
from openmodel_operator.probe import Probes
from openmodel_operator.spec import Manifest

_JUST_STARTED = timedelta(minutes=2)


class Observer:
    """Observes; keeps the proofs of pods that live."""

    def __init__(
        self, cluster: Cluster, probes: Probes, started: Callable[[Mapping[str, float]], None] = lambda _: None
    ) -> None:
        """`started` is told of each pod that has answered: seconds by phase of its start."""
        self._started = started
        self._cluster = cluster
        self._probes = probes
        self._proofs: dict[tuple[str, str], dict[str, Proof]] = {}

    def forget(self, namespace: str, name: str) -> None:
        """The model is gone."""
        self._proofs.pop((namespace, name), None)

    async def observe(self, identity: Identity) -> Observed:
        """What there is of the model now, and what is said of it."""
        there = await self.seen(identity)
        seen = replace(
            there,
            proofs=await self._prove_pods(identity, there.pods),
            complaints=await self._cluster.complaints(there.stateful_sets, there.pods),
        )
        return replace(seen, reports=await self._ask_groups(seen))

    async def seen(self, identity: Identity) -> Observed:
        """What there is of the model now; nobody is asked."""
        policies = self._owned("NetworkPolicy", identity)
        budgets = self._owned("PodDisruptionBudget", identity)
        services = self._owned("Service", identity)
        stateful_sets = self._owned("StatefulSet", identity)
        config_maps = self._owned("ConfigMap", identity)
        # Labels anybody can write; a pod counts that a StatefulSet of ours made.
        makers = [item["metadata"]["uid"] for item in stateful_sets]
        pods = [pod for pod in self._labelled("Pod", identity) if owned_by(pod, *makers)]
        return Observed(
            service=await self._service(identity, services),
            network_policies=policies,
            disruption_budgets=budgets,
            stateful_sets=stateful_sets,
            config_maps=config_maps,
            headless_services=[item for item in services if item["metadata"]["name"] != identity.name],
            pods=pods,
        )

    async def _service(self, identity: Identity, seen: list[Manifest]) -> Manifest | None:
        """The one that users keep: what serves depends on it, so that it is not there is not taken on trust."""
        for item in seen:
            if item["metadata"]["name"] == identity.name:
                return item
        found = await self._cluster.get("v1", "Service", identity.namespace, identity.name)
        return found if found is not None and owned_by(found, identity.uid) else None

    def _labelled(self, kind: str, identity: Identity) -> list[Manifest]:
        return self._cluster.children(kind, identity.namespace, identity.name)

    def _owned(self, kind: str, identity: Identity) -> list[Manifest]:
        return [item for item in self._labelled(kind, identity) if owned_by(item, identity.uid)]

    async def _ask_groups(self, seen: Observed) -> dict[str, GroupReport]:
        """What groups that share experts say of themselves; any of their pods may answer for the others."""

        async def ask(group: Manifest) -> GroupReport | None:
            for pod in seen.running_pods(group):
                # One that has no rank just now, or does not see the others, knows nothing.
                report = await self._probes.ask_group(pod["status"]["podIP"])
                if report is not None and report.experts:
                    return report
            return None

        reports = await asyncio.gather(*map(ask, seen.config_maps))
        named = zip(seen.config_maps, reports, strict=True)
        return {group["metadata"]["name"]: report for group, report in named if report is not None}

    async def _prove_pods(self, identity: Identity, pods: Sequence[Manifest]) -> dict[str, Proof]:
        """Proofs of all ready first pods: those known to be good, and new ones for the rest."""
        known = self._proofs.get((identity.namespace, identity.name), {})
        ready = {proof_key(pod): pod for pod in pods if is_ready(pod) and is_first(pod)}
        fresh = [item for item in ready if item not in known or not known[item].ok]
        results = await asyncio.gather(
            *(
                self._probes.prove(
                    ready[item]["status"]["podIP"],
                    identity.name,
                    ready[item]["metadata"]["labels"][names.REVISION_LABEL],
                )
                for item in fresh
            )
        )
        proofs = {item: known[item] for item in ready if item in known}
        proofs |= dict(zip(fresh, results, strict=True))
        for item in fresh:
            # Whoever begins to lead proves pods that have long been there.
            if proofs[item].ok and datetime.now(UTC) - ready_since(ready[item]) < _JUST_STARTED:
                self._started(cold_start(ready[item], proofs[item].seconds))
        self._proofs[identity.namespace, identity.name] = proofs
        return proofs
