"""What a spec asks for beside what its checkpoint is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from factories import a_spec, a_summary
from openmodel_operator.inspection import Inspection, SummaryError, read_summary
from openmodel_operator.memory_plan import MemoryPlan
from openmodel_operator.model_plan import Unplannable, memory_request, plan_model
from openmodel_operator.plan_check import actual_over_planned
from openmodel_operator.reasons import Reason

MIXTURE = read_summary(a_summary())
_SHAPE = json.loads(a_summary())["shape"]
DENSE = read_summary(
    a_summary(
        architecture="LlamaForCausalLM",
        shape={**_SHAPE, "replicated": 134515008, "expert": 0, "experts": 0, "routed_layers": 0},
    )
)
LIMIT = {"limits": {"memory": "4Gi"}}


@pytest.mark.parametrize(
    ("inspection", "fields", "message"),
    [
        (MIXTURE, {"engine": {"maxModelLen": 9000}}, r"spec.engine.maxModelLen: 9000 is more than the 8192"),
        (MIXTURE, {"parallelism": {"tensor": 2}}, r"spec.parallelism.tensor: a Mixtral.* parallelism.expert"),
        (DENSE, {"parallelism": {"tensor": 4}}, r"spec.parallelism.tensor: .* 3 key/value heads"),
        (DENSE, {"parallelism": {"expert": 2}}, r"spec.parallelism.expert: a Llama.* parallelism.tensor"),
        (read_summary(a_summary(dtype="float8")), {}, r"spec.engine.dtype: .*'float8'"),
    ],
)
def test_what_this_checkpoint_can_not_have_is_named(
    inspection: Inspection, fields: dict[str, Any], message: str
) -> None:
    planned = plan_model(a_spec(**fields), inspection)
    assert isinstance(planned, Unplannable)
    assert planned.reason is Reason.INVALID_SPEC
    with pytest.raises(ValueError, match=message):
        raise ValueError(planned.message)


def test_too_little_memory_is_told_with_what_would_do() -> None:
    planned = plan_model(a_spec(resources={"limits": {"memory": "1536Mi"}}), MIXTURE)
    assert isinstance(planned, Unplannable)
    assert planned.reason is Reason.INSUFFICIENT_MEMORY
    assert "spec.resources.limits.memory: does not fit" in planned.message
    assert "parallelism.expert of at least" in planned.message


def test_without_a_limit_nothing_is_too_much() -> None:
    planned = plan_model(a_spec(engine={"maxModelLen": 1024}), MIXTURE)
    assert isinstance(planned, MemoryPlan)
    assert planned.kv_cache_tokens == 1024


def test_ranks_of_a_pod_share_its_memory() -> None:
    alone = memory_request(a_spec(resources=LIMIT), MIXTURE)
    shared = memory_request(a_spec(resources=LIMIT, parallelism={"expert": 4, "ranksPerPod": 2}), MIXTURE)
    assert alone.memory_bytes == 4 << 30
    assert shared.memory_bytes == 2 << 30
    assert shared.overhead_bytes < alone.overhead_bytes


def test_ranks_that_share_matrices_divide_weights_and_cache() -> None:
    plans = [plan_model(a_spec(resources=LIMIT, parallelism={"tensor": ranks}), DENSE) for ranks in (1, 3)]
    one, three = plans
    assert isinstance(one, MemoryPlan)
    assert isinstance(three, MemoryPlan)
    whole = _SHAPE["embeddings"] * 2
    assert three.bill.weights - whole == pytest.approx((one.bill.weights - whole) / 3, rel=0.01)
    assert three.kv_cache_tokens > 2.5 * one.kv_cache_tokens


def test_eight_bits_halve_the_weights() -> None:
    whole, half = (
        plan_model(a_spec(resources=LIMIT, engine={"quantization": quantization}), MIXTURE)
        for quantization in ("none", "int8")
    )
    assert isinstance(whole, MemoryPlan)
    assert isinstance(half, MemoryPlan)
    assert half.bill.weights == pytest.approx(whole.bill.weights / 2, rel=0.01)


def test_the_plan_is_compared_with_what_a_rank_says() -> None:
    plan = plan_model(a_spec(resources=LIMIT), MIXTURE)
    assert isinstance(plan, MemoryPlan)
    facts = {"weight_bytes": str(2 * plan.bill.weights), "kv_cache_bytes": str(plan.bill.kv_cache), "dtype": "bfloat16"}
    assert actual_over_planned(plan.bill, facts, memory_known=True) == {"weights": 2.0, "kv_cache": 1.0}
    assert actual_over_planned(plan.bill, facts, memory_known=False) == {"weights": 2.0}


@pytest.mark.parametrize("text", ["", "{}", "[1]", a_summary(version=2), a_summary(shape={})])
def test_another_form_of_summary_is_none(text: str) -> None:
    with pytest.raises(SummaryError):
        read_summary(text)


@pytest.mark.parametrize(
    ("expression", "stated", "allowed"),
    [
        ("Apache-2.0", "apache-2.0", True),
        ("MIT OR Apache-2.0", "apache-2.0", True),
        ("MIT", "apache-2.0", False),
        ("MIT", "", False),
    ],
)
def test_a_licence_is_held_to_what_the_card_states(expression: str, stated: str, allowed: bool) -> None:
    inspection = read_summary(a_summary(license=stated))
    planned = plan_model(a_spec(model={"source": "oci://r/m:1", "license": expression}), inspection)
    assert isinstance(planned, MemoryPlan) is allowed
    if isinstance(planned, Unplannable):
        assert planned.reason is Reason.LICENSE_MISMATCH
        assert "spec.model.license" in planned.message
