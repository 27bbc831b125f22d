"""The limit that engines are measured against: figures worked out by hand, and what must hold for every model."""

from __future__ import annotations

import pytest

from bench.measure.roofline import (
    Limits,
    ModelShape,
    decode_tokens_per_s,
    step_bytes,
    step_operations,
    step_seconds,
    touched_experts,
)

SMOLLM2 = {
    "num_hidden_layers": 30,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
}
DENSE = ModelShape.from_config(SMOLLM2)
MIXTURE = ModelShape.from_config({**SMOLLM2, "num_local_experts": 8, "num_experts_per_tok": 2})
PARAMETERS = 134_515_008
KV_BYTES_PER_TOKEN = 2 * 2 * 30 * 3 * 64
# Slow memory or slow cores, so that one of them alone decides.
SLOW_MEMORY = Limits(read_gb_per_s=1.0, bf16_gflop_per_s=1e9)
SLOW_CORES = Limits(read_gb_per_s=1e9, bf16_gflop_per_s=1.0)


def test_the_shape_is_what_the_configuration_says() -> None:
    assert ModelShape(layers=30, hidden=576, intermediate=1536, heads=9, kv_heads=3, head_dim=64, vocab=49152) == DENSE
    assert (MIXTURE.experts, MIXTURE.experts_per_token) == (8, 2)


def test_a_dense_step_reads_every_weight_once_and_each_stream_s_cache() -> None:
    assert step_bytes(DENSE, 1, 0) == 2 * PARAMETERS
    assert step_bytes(DENSE, 4, 100) - step_bytes(DENSE, 4, 0) == 400 * KV_BYTES_PER_TOKEN


def test_a_dense_step_computes_with_every_weight_for_each_stream() -> None:
    assert step_operations(DENSE, 3, 0) == pytest.approx(3 * 2 * PARAMETERS)
    attention = step_operations(DENSE, 1, 100) - step_operations(DENSE, 1, 0)
    assert attention == pytest.approx(4 * 100 * 9 * 64 * 30)


@pytest.mark.parametrize(("streams", "experts"), [(1, 2.0), (2, 3.5), (4, 8 * (1 - 0.75**4)), (1000, 8.0)])
def test_streams_touch_as_many_experts_as_chance_has_it(streams: int, experts: float) -> None:
    assert touched_experts(MIXTURE, streams) == pytest.approx(experts)
    assert touched_experts(DENSE, streams) == 1


def test_one_stream_of_a_mixture_reads_two_experts_of_eight() -> None:
    expert = 3 * 576 * 1536
    router = 576 * 8
    assert step_bytes(MIXTURE, 1, 0) == pytest.approx(2 * (PARAMETERS + 30 * (expert + router)))


def test_a_mixture_s_arithmetic_does_not_grow_with_the_experts_it_has() -> None:
    more = ModelShape.from_config({**SMOLLM2, "num_local_experts": 16, "num_experts_per_tok": 2})
    routers = 2 * 5 * 30 * 576 * 8
    assert step_operations(more, 5, 10) - step_operations(MIXTURE, 5, 10) == pytest.approx(routers)


def test_the_slower_of_memory_and_cores_decides() -> None:
    assert step_seconds(DENSE, SLOW_MEMORY, 8, 192) == pytest.approx(step_bytes(DENSE, 8, 192) / 1e9)
    assert step_seconds(DENSE, SLOW_CORES, 8, 192) == pytest.approx(step_operations(DENSE, 8, 192) / 1e9)


def test_a_machine_that_was_worked_out_by_hand() -> None:
    limits = Limits(read_gb_per_s=66, bf16_gflop_per_s=1090)
    assert decode_tokens_per_s(DENSE, limits, 1, 192) == pytest.approx(241, abs=1)
    assert decode_tokens_per_s(DENSE, limits, 32, 192) == pytest.approx(3861, rel=0.01)
    assert decode_tokens_per_s(MIXTURE, limits, 1, 192) == pytest.approx(153, abs=1)
    assert decode_tokens_per_s(MIXTURE, limits, 16, 192) == pytest.approx(732, rel=0.01)


def test_more_streams_never_make_fewer_tokens() -> None:
    limits = Limits(read_gb_per_s=36, bf16_gflop_per_s=2300)
    for shape in (DENSE, MIXTURE):
        speeds = [decode_tokens_per_s(shape, limits, streams, 192) for streams in range(1, 130)]
        assert speeds == sorted(speeds)
