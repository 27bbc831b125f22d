"""The planner's bill: it adds up, grows the right way, says what would fit, and that then fits."""

from __future__ import annotations

import re
from dataclasses import astuple, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmodel_operator.memory_plan import (
    DoesNotFit,
    MemoryPlan,
    MemoryRequest,
    ModelShape,
    plan_memory,
    weights_per_rank,
)

GIB = 1 << 30
MIXTURE = ModelShape(
    replicated=1_600_000_000,
    exact=1_000_000,
    expert=176_000_000,
    experts=8,
    routed_layers=32,
    experts_per_token=2,
    hidden_size=4096,
    vocab_size=32000,
    cached_per_token=65536,
    kv_heads=8,
    step_per_token=60000,
)
DENSE = replace(MIXTURE, replicated=7_000_000_000, expert=0, experts=0, routed_layers=0, experts_per_token=0)
REQUEST = MemoryRequest(
    memory_bytes=80 * GIB,
    memory_utilization=0.9,
    ranks=4,
    max_model_len=32768,
    max_num_seqs=256,
    max_num_batched_tokens=8192,
)


def fits(shape: ModelShape, request: MemoryRequest) -> MemoryPlan:
    plan = plan_memory(shape, request)
    assert isinstance(plan, MemoryPlan), plan
    return plan


def does_not(shape: ModelShape, request: MemoryRequest) -> DoesNotFit:
    plan = plan_memory(shape, request)
    assert isinstance(plan, DoesNotFit), plan
    return plan


@given(
    ranks=st.integers(1, 16),
    per_pod=st.integers(1, 8),
    redundant=st.integers(0, 4),
    memory=st.integers(8, 200),
    length=st.integers(1, 200_000),
    weight_bytes=st.sampled_from([1.0, 2.0, 4.0]),
)
def test_a_bill_is_all_the_memory_there_is(
    ranks: int, per_pod: int, redundant: int, memory: int, length: int, weight_bytes: float
) -> None:
    request = replace(
        REQUEST,
        ranks=ranks,
        ranks_per_pod=min(per_pod, ranks),
        redundant_experts=redundant,
        memory_bytes=memory * GIB,
        max_model_len=length,
        weight_bytes=weight_bytes,
    )
    plan = plan_memory(MIXTURE, request)
    if isinstance(plan, DoesNotFit):
        assert plan.missing_bytes > 0
        return
    assert sum(astuple(plan.bill)) == request.memory_bytes
    assert plan.kv_cache_tokens >= length
    # Whoever survives a pod survives a rank.
    assert plan.survives_process_loss or not plan.survives_pod_loss
    if plan.survives_process_loss:
        left = weights_per_rank(MIXTURE, replace(request, redundant_experts=0), ranks - 1)
        assert left <= plan.bill.weights + plan.bill.failover


def test_experts_are_divided_and_the_rest_is_not() -> None:
    one, four = (fits(MIXTURE, replace(REQUEST, ranks=ranks, weight_bytes=1.0)) for ranks in (1, 4))
    assert one.bill.weights - four.bill.weights == 6 * 32 * MIXTURE.expert
    assert one.bill.exchange == 0 < four.bill.exchange
    # An odd number of ranks has slots to spare.
    assert fits(MIXTURE, replace(REQUEST, ranks=3)).bill.weights == weights_per_rank(MIXTURE, REQUEST, 3)
    assert weights_per_rank(MIXTURE, REQUEST, 3) == weights_per_rank(MIXTURE, replace(REQUEST, redundant_experts=1), 3)


def test_what_survives() -> None:
    plan = fits(MIXTURE, REQUEST)
    assert (plan.survives_process_loss, plan.survives_pod_loss) == (True, True)
    assert plan.bill.failover == weights_per_rank(MIXTURE, REQUEST, 3) - plan.bill.weights
    assert "3 ranks have room" in plan.reason
    two_pods = replace(REQUEST, ranks_per_pod=2, memory_bytes=48 * GIB)
    plan = fits(MIXTURE, two_pods)
    assert (plan.survives_process_loss, plan.survives_pod_loss) == (True, False)
    alone = fits(MIXTURE, replace(REQUEST, ranks=1, weight_bytes=1.0))
    assert not alone.survives_process_loss
    assert "only rank" in alone.reason
    assert not fits(DENSE, replace(REQUEST, ranks=1)).survives_process_loss
    tight = fits(MIXTURE, replace(REQUEST, memory_bytes=37 * GIB, max_model_len=4096))
    assert not tight.survives_process_loss
    assert tight.bill.failover == 0
    assert "no room" in tight.reason


def test_what_would_fit_fits() -> None:
    refused = does_not(MIXTURE, replace(REQUEST, ranks=1))
    assert "does not fit: a rank needs 87.0 GiB for weights" in refused.reason
    ranks = re.search(r"parallelism\.expert of at least (\d+)", refused.reason)
    assert ranks is not None
    fits(MIXTURE, replace(REQUEST, ranks=int(ranks[1])))
    does_not(MIXTURE, replace(REQUEST, ranks=int(ranks[1]) - 1))
    assert "engine.quantization int8" in refused.reason
    fits(MIXTURE, replace(REQUEST, ranks=1, weight_bytes=1.0))
    memory = re.search(r"([\d.]+) GiB of memory a rank", refused.reason)
    assert memory is not None
    fits(MIXTURE, replace(REQUEST, ranks=1, memory_bytes=int(float(memory[1]) * GIB)))


def test_a_shorter_length_is_named() -> None:
    long = replace(REQUEST, max_model_len=1_000_000)
    refused = does_not(MIXTURE, long)
    shorter = re.search(r"maxModelLen of at most (\d+)", refused.reason)
    assert shorter is not None
    assert fits(MIXTURE, replace(long, max_model_len=int(shorter[1]))).kv_cache_tokens == int(shorter[1])
    does_not(MIXTURE, replace(long, max_model_len=int(shorter[1]) + 1))


@pytest.mark.parametrize("memory", [1, 4, 10])
def test_a_dense_model_names_no_experts(memory: int) -> None:
    assert "parallelism.expert" not in does_not(DENSE, replace(REQUEST, ranks=1, memory_bytes=memory * GIB)).reason
