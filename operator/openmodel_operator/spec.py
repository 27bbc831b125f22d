"""An OpenModel's spec, parsed: what this version of the operator builds, with every optional value filled in.

The API server has already checked types, ranges and the CEL rules; what is left here is what CEL can not say.
Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from openmodel_operator import names
from openmodel_operator.telemetry_spec import TelemetrySpec
from openmodel_telemetry.names import CAPTURE_VARIABLE

Manifest = dict[str, Any]
_LICENSES = re.compile(r"[A-Za-z0-9.+-]+( OR [A-Za-z0-9.+-]+)*")

# Suffixes of Kubernetes quantities.
_SUFFIXES = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20,
    "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50,
}


class SpecError(ValueError):
    """A value that can not be used; the message starts with the field's path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """spec.engine with defaults: vLLM's, or None where the checkpoint decides."""

    dtype: str = "auto"
    quantization: str = "auto"
    max_model_len: int | None = None
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    memory_utilization: float = 0.9
    prefix_caching: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchSpec:
    """How a checkpoint is fetched that nothing can mount."""

    secret: tuple[str, str] | None = None
    """Name and key of the Secret that has a token."""
    endpoint: str | None = None
    """A mirror."""
    claim: str | None = None
    """The claim that keeps it; None: one of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifySpec:
    """What a new revision has to answer before it serves."""

    config_map: str
    mode: str
    """Exact: as the revision that serves; Recorded: as was written down; Report: told, but not required."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscalingSpec:
    """Between how many groups, and what calls for more of them."""

    min_replicas: int = 1
    max_replicas: int
    waiting_tokens_per_rank: int = 4096
    kv_cache_utilization: float = 0.8
    first_token_seconds: float | None = None
    """None: it does not matter how long first tokens take."""
    idle_seconds: int = 600
    """Without a request, until a model that may have no groups has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenModelSpec:
    """What to build."""

    source: str
    revision: str | None
    digest: str | None
    """That the checkpoint's manifest must have."""
    license: str | None
    """That the model card must state: SPDX, alternatives by OR."""
    fetch: FetchSpec
    engine: EngineSpec
    ranks: int
    """Ranks of a group."""
    tensor: bool
    """They share each matrix of a dense model; else they share the experts."""
    ranks_per_pod: int
    grouped: bool
    """Whether a group may have several ranks: `parallelism.expert` is there, or `parallelism.tensor` more than 1."""
    redundant_experts: int
    """Copies of experts in each layer beside the first."""
    threads: int
    """Threads of a rank: its share of the pod's cpu request, at least 1."""
    resources: Manifest
    memory_bytes: int | None
    """That a pod may use; None where `resources.limits` does not say."""
    replicas: int
    autoscaling: AutoscalingSpec | None
    """None: somebody else writes the count, or nobody."""
    routed_when_cold: bool
    """Whether a router takes the calls while no pod can."""
    telemetry: TelemetrySpec
    drain_seconds: int
    recreate: bool
    """Old groups go before new ones come, instead of after."""
    paused: bool
    """Revisions stay as they are."""
    verify: VerifySpec | None
    """None: a revision serves once its groups have answered."""
    suspend: bool
    pod_template: Manifest

    @property
    def is_fetched(self) -> bool:
        """Whether the checkpoint has to be fetched before a pod can mount it."""
        return self.source.startswith("hf://")


def parse_spec(spec: Mapping[str, Any]) -> OpenModelSpec:
    """Parses an admitted spec; SpecError names the field."""
    engine = spec.get("engine", {})
    defaults = EngineSpec()
    resources = dict(spec.get("resources", {}))
    cpu = resources.get("requests", {}).get("cpu", resources.get("limits", {}).get("cpu", 1))
    parallelism, rollout = spec.get("parallelism", {}), spec.get("rollout", {})
    ranks = group_ranks(parallelism)
    tensor = int(parallelism.get("tensor", 1)) > 1
    ranks_per_pod = int(parallelism.get("ranksPerPod", 1))
    return OpenModelSpec(
        source=spec["model"]["source"],
        revision=spec["model"].get("revision"),
        digest=spec["model"].get("digest"),
        license=_license(spec["model"].get("license")),
        fetch=_fetch(spec["model"]),
        engine=EngineSpec(
            dtype=engine.get("dtype", defaults.dtype),
            quantization=engine.get("quantization", defaults.quantization),
            max_model_len=engine.get("maxModelLen"),
            max_num_seqs=engine.get("maxNumSeqs", defaults.max_num_seqs),
            max_num_batched_tokens=engine.get("maxNumBatchedTokens", defaults.max_num_batched_tokens),
            memory_utilization=engine.get("memoryUtilization", defaults.memory_utilization),
            prefix_caching=engine.get("prefixCaching", defaults.prefix_caching),
        ),
        ranks=ranks,
        tensor=tensor,
        ranks_per_pod=ranks_per_pod,
        grouped="expert" in parallelism or tensor,
        redundant_experts=int(parallelism.get("redundantExperts", 0)),
        threads=max(1, math.floor(parse_quantity("spec.resources.requests.cpu", cpu) / ranks_per_pod)),
        resources=resources,
        memory_bytes=_memory(resources),
        replicas=int(spec.get("replicas", 1)),
        autoscaling=parse_autoscaling(spec["autoscaling"]) if "autoscaling" in spec else None,
        routed_when_cold=spec.get("access", {}).get("router") == "WhenCold" or "autoscaling" in spec,
        telemetry=_telemetry(spec.get("telemetry", {})),
        drain_seconds=int(rollout.get("drainSeconds", 120)),
        recreate=rollout.get("strategy") == "Recreate",
        paused=bool(rollout.get("paused", False)),
        verify=_verify(rollout.get("verify")),
        suspend=bool(spec.get("suspend", False)),
        pod_template=_pod_template(spec.get("podTemplate", {})),
    )


def _license(expression: str | None) -> str | None:
    if expression is not None and not _LICENSES.fullmatch(expression):
        raise SpecError(
            f"spec.model.license: {expression!r} can not be compared with what a card states: use SPDX identifiers, "
            "several with OR"
        )
    return expression


def _verify(verify: Mapping[str, Any] | None) -> VerifySpec | None:
    return None if verify is None else VerifySpec(config_map=verify["configMap"], mode=verify.get("mode", "Exact"))


def _telemetry(told: Mapping[str, Any]) -> TelemetrySpec:
    telemetry = TelemetrySpec(
        otlp_endpoint=told.get("otlpEndpoint"),
        sample_ratio=float(told.get("sampleRatio", 1.0)),
        capture_content=bool(told.get("captureContent", False)),
    )
    try:
        _ = telemetry.otlp_port
    except ValueError as error:
        raise SpecError(f"spec.telemetry.otlpEndpoint: {telemetry.otlp_endpoint!r}: {error}") from None
    return telemetry


def parse_autoscaling(told: Mapping[str, Any]) -> AutoscalingSpec:
    """`spec.autoscaling` with defaults."""
    targets = told.get("targets", {})
    most, default = int(told["maxReplicas"]), AutoscalingSpec(max_replicas=1)
    return AutoscalingSpec(
        min_replicas=int(told.get("minReplicas", default.min_replicas)),
        max_replicas=most,
        waiting_tokens_per_rank=int(targets.get("waitingTokensPerRank", default.waiting_tokens_per_rank)),
        kv_cache_utilization=float(targets.get("kvCacheUtilization", default.kv_cache_utilization)),
        first_token_seconds=targets.get("timeToFirstTokenSeconds"),
        idle_seconds=int(told.get("idleSeconds", default.idle_seconds)),
    )


def _fetch(model: Mapping[str, Any]) -> FetchSpec:
    secret = model.get("secretRef")
    return FetchSpec(
        secret=None if secret is None else (secret["name"], secret["key"]),
        endpoint=model.get("endpoint"),
        claim=model.get("cache", {}).get("persistentVolumeClaim"),
    )


def _memory(resources: Mapping[str, Any]) -> int | None:
    limit = resources.get("limits", {}).get("memory")
    return None if limit is None else int(parse_quantity("spec.resources.limits.memory", limit))


def group_ranks(parallelism: Mapping[str, Any]) -> int:
    """Ranks of a group: of the two ways to share a model, the schema allows one."""
    return max(int(parallelism.get("expert", 1)), int(parallelism.get("tensor", 1)))


def _pod_template(template: Mapping[str, Any]) -> Manifest:
    """The template, after checking the parts that merging relies on; the API server checks the rest."""
    for part in ("metadata", "spec"):
        if not isinstance(template.get(part, {}), Mapping):
            raise SpecError(f"spec.podTemplate.{part} must be an object")
    for kind in ("containers", "initContainers", "volumes"):
        items = template.get("spec", {}).get(kind, [])
        if not isinstance(items, list) or not all(isinstance(item, Mapping) and item.get("name") for item in items):
            raise SpecError(f"spec.podTemplate.spec.{kind} must be a list of objects with names: they merge by name")
    for container in template.get("spec", {}).get("containers", []):
        if container["name"] == names.RUNTIME_CONTAINER and "args" in container:
            raise SpecError(
                f"spec.podTemplate.spec.containers[{names.RUNTIME_CONTAINER}].args is generated from spec.engine: "
                "leave it out"
            )
        env = container.get("env") or []
        if not isinstance(env, list) or not all(isinstance(item, Mapping) for item in env):
            raise SpecError(
                f"spec.podTemplate.spec.containers[{container['name']}].env must be a list of objects with names"
            )
        if any(item.get("name") == CAPTURE_VARIABLE for item in env):
            raise SpecError(
                f"spec.podTemplate: {CAPTURE_VARIABLE} is set by spec.telemetry.captureContent, of which the "
                "status tells: leave it out"
            )
    return dict(template)


def parse_quantity(path: str, value: str | int | float) -> Decimal:
    """A Kubernetes quantity as a number."""
    text = str(value)
    digits = text.rstrip("mkMGTPi")
    try:
        return Decimal(digits) * _SUFFIXES[text[len(digits) :]]
    except (ArithmeticError, KeyError):
        # 1e999999 is a number that nothing can hold.
        raise SpecError(f"{path}: {value!r} is not a quantity") from None
