"""How a checkpoint fits what the spec asks for: the bill of a rank, or why there can be none.

Pure: what only the checkpoint can tell is checked here, before anything is started for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from openmodel_operator.inspection import Inspection
from openmodel_operator.memory_plan import DoesNotFit, MemoryPlan, MemoryRequest, plan_memory
from openmodel_operator.reasons import Reason
from openmodel_operator.spec import OpenModelSpec

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# What a pod's processes hold beside weights, step and cache, measured: Python and its libraries.
_RANK_BYTES = 350 << 20
_FRONT_BYTES = 80 << 20


@dataclass(frozen=True, slots=True)
class Unplannable:
    """The spec asks for what this checkpoint can not have."""

    reason: Reason
    message: str


def plan_model(spec: OpenModelSpec, inspection: Inspection) -> MemoryPlan | Unplannable:
    """The bill of one rank of a group."""
    if spec.license is not None and not allows(spec.license, inspection.license):
        stated = f"states {inspection.license!r}" if inspection.license else "states no licence"
        return Unplannable(
            Reason.LICENSE_MISMATCH,
            f"spec.model.license: the model card {stated}, not {spec.license!r}: use another, or correct the field",
        )
    wrong = _contradiction(spec, inspection)
    if wrong:
        return Unplannable(Reason.INVALID_SPEC, wrong)
    planned = plan_memory(inspection.shape, memory_request(spec, inspection))
    if isinstance(planned, DoesNotFit):
        return Unplannable(Reason.INSUFFICIENT_MEMORY, f"spec.resources.limits.memory: {planned.reason}")
    return planned


def memory_request(spec: OpenModelSpec, inspection: Inspection) -> MemoryRequest:
    """What is asked of the planner: on a CPU, a rank has its share of the pod's memory."""
    engine, ranks = spec.engine, spec.ranks_per_pod
    dtype = inspection.dtype if engine.dtype == "auto" else engine.dtype
    element_bytes = _BYTES[dtype]
    prompts = min(engine.max_num_batched_tokens, inspection.prompt_tokens_on_cpu)
    return MemoryRequest(
        memory_bytes=None if spec.memory_bytes is None else spec.memory_bytes // ranks,
        memory_utilization=engine.memory_utilization,
        overhead_bytes=_RANK_BYTES + _FRONT_BYTES // ranks,
        ranks=spec.ranks,
        ranks_per_pod=ranks,
        tensor=spec.tensor,
        redundant_experts=spec.redundant_experts,
        max_model_len=engine.max_model_len or inspection.max_model_len,
        max_num_seqs=engine.max_num_seqs,
        max_num_batched_tokens=min(engine.max_num_batched_tokens, prompts + engine.max_num_seqs),
        weight_bytes=1.0 if engine.quantization == "int8" else float(element_bytes),
        element_bytes=element_bytes,
    )


def allows(expression: str, stated: str) -> bool:
    """Whether a licence is one of those of an SPDX expression; a card's identifiers are SPDX's in small letters."""
    return stated.lower() in [item.strip().lower() for item in re.split(r"\bOR\b", expression)]


def _contradiction(spec: OpenModelSpec, inspection: Inspection) -> str:
    """What the spec says of another kind of model than this one; "" when nothing."""
    model, experts = inspection.architecture, inspection.shape.experts
    longest = spec.engine.max_model_len
    if longest is not None and longest > inspection.max_model_len:
        return (
            f"spec.engine.maxModelLen: {longest} is more than the {inspection.max_model_len} positions that the model "
            "was made for: use that or less"
        )
    if spec.engine.dtype == "auto" and inspection.dtype not in _BYTES:
        return f"spec.engine.dtype: the checkpoint says {inspection.dtype!r}: set one of {', '.join(_BYTES)}"
    if spec.tensor and experts:
        return f"spec.parallelism.tensor: a {model} has experts: share them with parallelism.expert"
    if spec.tensor and spec.ranks > inspection.shape.kv_heads:
        heads = inspection.shape.kv_heads
        return f"spec.parallelism.tensor: a {model} has {heads} key/value heads: use at most so many ranks"
    if spec.tensor:
        return ""
    if spec.ranks > 1 and not experts:
        return f"spec.parallelism.expert: a {model} has no experts to share: use parallelism.tensor, or more replicas"
    most = experts * (spec.ranks - 1)
    if experts and spec.redundant_experts > most:
        return (
            f"spec.parallelism.redundantExperts: {spec.redundant_experts} copies of {experts} experts do not fit on "
            f"{spec.ranks} ranks, one of each a rank: use at most {most}"
        )
    if spec.ranks > max(1, experts):
        return f"spec.parallelism.expert: a {model} has {experts} experts a layer: use at most so many ranks"
    return ""
