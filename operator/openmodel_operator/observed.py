"""A snapshot of everything that decisions may look at.

Pure data; `controller` fills it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from openmodel_operator import names
from openmodel_operator.failures import Failure
from openmodel_operator.group_report import GroupReport
from openmodel_operator.spec import Manifest


@dataclass(frozen=True, slots=True)
class Proof:
    """What a real inference on a pod showed."""

    ok: bool
    message: str = ""
    """Why not, when it failed."""
    seconds: float = 0.0
    facts: Mapping[str, str] = field(default_factory=dict)
    """What the runtime says it loaded (parameters of its ModelConfig)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The children of one OpenModel."""

    stateful_sets: Sequence[Manifest] = ()
    headless_services: Sequence[Manifest] = ()
    config_maps: Sequence[Manifest] = ()
    pods: Sequence[Manifest] = ()
    network_policies: Sequence[Manifest] = ()
    disruption_budgets: Sequence[Manifest] = ()
    service: Manifest | None = None
    """The one that users keep."""
    told_revision: str = names.NO_REVISION
    """The one that serves, as the status has it."""
    proofs: Mapping[str, Proof] = field(default_factory=dict)
    """By pod uid."""
    complaints: Mapping[str, Failure] = field(default_factory=dict)
    """What Events tell of StatefulSets and pods that do not say themselves why nothing comes of them, by name."""
    reports: Mapping[str, GroupReport] = field(default_factory=dict)
    """Of groups whose ranks share experts, by name, as far as they answer."""

    def children(self) -> list[Manifest]:
        """Everything that the OpenModel owns."""
        service = [] if self.service is None else [self.service]
        return [*self.network_policies, *self.disruption_budgets, *service, *self.groups()]

    def groups(self) -> list[Manifest]:
        """What makes up the groups of all revisions."""
        return [*self.stateful_sets, *self.headless_services, *self.config_maps]

    def serving_revision(self) -> str:
        """The revision that the Service selects; it was proven before it was selected.

        Where somebody took that away, what was told to serve: it is not to end for it.
        """
        selector = {} if self.service is None else self.service.get("spec", {}).get("selector") or {}
        return str(selector.get(names.REVISION_LABEL, self.told_revision))

    def pods_of(self, revision: str) -> list[Manifest]:
        """Pods of a revision that are not being deleted."""
        return [
            pod
            for pod in self.pods
            if pod["metadata"]["labels"].get(names.REVISION_LABEL) == revision
            and "deletionTimestamp" not in pod["metadata"]
        ]

    def ready_groups(self, revision: str) -> int:
        """Groups of a revision whose first pod is ready."""
        return sum(1 for pod in self.pods_of(revision) if is_ready(pod) and is_first(pod))

    def proven_groups(self, revision: str) -> int:
        """Groups of a revision whose first pod is ready and answered a real inference."""
        return sum(1 for pod in self.pods_of(revision) if is_ready(pod) and self._proven(pod))

    def proven_pod(self, revision: str) -> Manifest | None:
        """A pod of the revision that answered a real inference."""
        return next((pod for pod in self.pods_of(revision) if is_ready(pod) and self._proven(pod)), None)

    def has_groups(self, revision: str) -> bool:
        """Whether groups of the revision are there, ready or not."""
        return any(_labels(item).get(names.REVISION_LABEL) == revision for item in self.stateful_sets)

    def proven_facts(self, revision: str) -> Mapping[str, str]:
        """What the first proven pod of a revision says that it loaded; {} when there is none."""
        proven = (self.proofs[proof_key(pod)] for pod in self.pods_of(revision) if is_ready(pod) and self._proven(pod))
        return next((proof.facts for proof in proven), {})

    def complaints_of(self, revision: str) -> list[Failure]:
        """What Events tell of a revision."""
        sets = [item for item in self.stateful_sets if _labels(item).get(names.REVISION_LABEL) == revision]
        there = {_name(item) for item in [*sets, *self.pods_of(revision)]}
        return [failure for name, failure in self.complaints.items() if name in there]

    def reports_of(self, revision: str) -> dict[str, GroupReport]:
        """What the groups of a revision say, by name."""
        names_of = {_name(item) for item in self.config_maps if _labels(item).get(names.REVISION_LABEL) == revision}
        return {name: report for name, report in sorted(self.reports.items()) if name in names_of}

    def running_pods(self, group: Manifest) -> list[Manifest]:
        """Pods of the group that a ConfigMap belongs to that have an address, in their order."""
        wanted = {label: _labels(group)[label] for label in (names.REVISION_LABEL, names.GROUP_INDEX_LABEL)}
        pods = [
            pod
            for pod in self.pods
            if pod.get("status", {}).get("podIP") and wanted.items() <= pod["metadata"]["labels"].items()
        ]
        return sorted(pods, key=_name)

    def _proven(self, pod: Manifest) -> bool:
        proof = self.proofs.get(proof_key(pod))
        return proof is not None and proof.ok


def _name(item: Manifest) -> str:
    return str(item["metadata"]["name"])


def _labels(item: Manifest) -> Mapping[str, str]:
    return dict(item["metadata"].get("labels", {}))


def is_ready(pod: Manifest) -> bool:
    """The pod's own Ready condition."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def is_first(pod: Manifest) -> bool:
    """Whether it is the first of its group."""
    return bool(pod["metadata"]["labels"].get(names.POD_INDEX_LABEL) == "0")


def restarts(pod: Manifest) -> int:
    """Restarts of all containers of the pod."""
    statuses = pod.get("status", {}).get("containerStatuses", [])
    return sum(int(status.get("restartCount", 0)) for status in statuses)


def proof_key(pod: Manifest) -> str:
    """A proof holds for one life of a pod's containers."""
    return f"{pod['metadata']['uid']}/{restarts(pod)}"
