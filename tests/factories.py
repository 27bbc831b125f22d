"""Objects for tests: an OpenModel and its pods, as the API server would show them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from openmodel_operator import names
from openmodel_operator.desired.identity import Identity
from openmodel_operator.group_report import GroupReport
from openmodel_operator.inspection import read_summary
from openmodel_operator.memory_plan import MemoryPlan
from openmodel_operator.model_plan import plan_model
from openmodel_operator.observed import Observed, Proof, proof_key
from openmodel_operator.outlook import Known
from openmodel_operator.rollout import ActionPlan
from openmodel_operator.scaling.load import PodLoad
from openmodel_operator.spec import OpenModelSpec, parse_spec

IDENTITY = Identity("default", "mixtral", "uid-1")
IMAGE = "registry.example/runtime@sha256:" + "0" * 64
SOURCE = "oci://registry.example/models/mixtral:1"


def a_spec(**fields: Any) -> OpenModelSpec:
    return parse_spec({"model": {"source": SOURCE}, **fields})


def a_pod(
    revision: str,
    *,
    name: str = "pod",
    group: int = 0,
    ready: bool = True,
    waiting: Mapping[str, str] | None = None,
    terminated: Mapping[str, Any] | None = None,
    restarts: int = 0,
    unschedulable: str = "",
) -> dict[str, Any]:
    state: dict[str, Any] = {"running": {"startedAt": "2026-01-01T00:00:03Z"}}
    if waiting:
        state = {"waiting": dict(waiting)}
    status: dict[str, Any] = {
        "podIP": "10.0.0.1",
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"},
            {"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-01-01T00:00:10Z"},
        ],
        "containerStatuses": [
            {
                "name": names.RUNTIME_CONTAINER,
                "ready": ready,
                "restartCount": restarts,
                "state": state,
                "lastState": {"terminated": dict(terminated)} if terminated else {},
            }
        ],
    }
    if unschedulable:
        status["conditions"] = [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": unschedulable}
        ]
        status["containerStatuses"] = []
    return {
        "metadata": {
            "name": name,
            "namespace": IDENTITY.namespace,
            "uid": f"uid-{name}-{revision}-{group}",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {
                names.MODEL_LABEL: IDENTITY.name,
                names.REVISION_LABEL: revision,
                names.GROUP_INDEX_LABEL: str(group),
                names.POD_INDEX_LABEL: "0",
            },
        },
        "status": status,
    }


def a_summary(**fields: Any) -> str:
    """What an inspection tells of a mixture of eight experts, of 692 million parameters."""
    shape = {
        "replicated": 55027008,
        "exact": 173376,
        "embeddings": 28311552,
        "attention": 26542080,
        "expert": 2654208,
        "experts": 8,
        "routed_layers": 30,
        "experts_per_token": 2,
        "hidden_size": 576,
        "vocab_size": 49152,
        "cached_per_token": 11520,
        "kv_heads": 3,
        "step_per_token": 7360,
        "stored_bytes": 2.0,
        "stored_expert_bytes": 2.0,
    }
    told = {
        "version": 1,
        "architecture": "MixtralForCausalLM",
        "dtype": "bfloat16",
        "license": "apache-2.0",
        "parameters": 692036928,
        "active_parameters": 214279488,
        "max_model_len": 8192,
        "prompt_tokens_on_cpu": 1024,
        "shape": shape,
    }
    return json.dumps({**told, **fields})


def an_outlook(spec: OpenModelSpec) -> Known:
    """Of the mixture."""
    inspection = read_summary(a_summary())
    planned = plan_model(spec, inspection)
    assert isinstance(planned, MemoryPlan), planned
    return Known(inspection, planned)


def a_report(**fields: Any) -> GroupReport:
    """Of four ranks that need at least two."""
    given = {
        "ranks": 4,
        "wanted_ranks": 4,
        "experts": 8,
        "missing_experts": 0,
        "smallest_ranks": 2,
        "survives_process_loss": 2,
        "survives_pod_loss": 1,
        "imbalance": 0.0,
        "last_rebalance": 0.0,
    }
    return GroupReport(**{**given, **fields})


def children_of(actions: ActionPlan, kind: str) -> list[dict[str, Any]]:
    """The applied children of a kind, with uids as the API server gives them."""
    return [
        {**item, "metadata": {**item["metadata"], "uid": f"uid-{item['metadata']['name']}"}}
        for item in actions.apply
        if item["kind"] == kind and item["metadata"]["name"] != IDENTITY.name
    ]


def observed_after(
    actions: ActionPlan, *, pods: Sequence[dict[str, Any]] = (), proven: bool = True, kept: Observed | None = None
) -> Observed:
    """The world once `actions` were applied and `pods` run; `kept` adds the children of an earlier revision."""
    service = next(
        item for item in actions.apply if item["metadata"]["name"] == IDENTITY.name and item["kind"] == "Service"
    )
    deleted = {item["metadata"]["name"] for item in actions.delete}
    old_sets = [item for item in (kept.stateful_sets if kept else ()) if item["metadata"]["name"] not in deleted]
    old_services = [
        item for item in (kept.headless_services if kept else ()) if item["metadata"]["name"] not in deleted
    ]
    old_settings = [item for item in (kept.config_maps if kept else ()) if item["metadata"]["name"] not in deleted]
    return Observed(
        service=service,
        config_maps=[*old_settings, *children_of(actions, "ConfigMap")],
        stateful_sets=[*old_sets, *children_of(actions, "StatefulSet")],
        headless_services=[*old_services, *children_of(actions, "Service")],
        pods=pods,
        proofs={
            proof_key(pod): Proof(ok=proven, message="" if proven else "UNAVAILABLE: no", seconds=0.25) for pod in pods
        },
    )


def a_load(**fields: Any) -> PodLoad:
    """Of a pod with one rank that has nothing to do."""
    given = {
        "ranks": 1,
        "running": 0,
        "waiting": 0,
        "waiting_tokens": 0,
        "most_waiting_tokens": 0,
        "kv_cache_used": 0.0,
        "under_way": 0,
        "idle_seconds": 0.0,
        "first_token_seconds": None,
    }
    return PodLoad(**{**given, **fields})
