"""The planner at real sizes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

from openmodel_kernels.reference.kernels import ReferenceKernels
from openmodel_operator.memory_plan import MemoryPlan, plan_memory, weights_per_rank
from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.models.causal_lm import CausalLM
from openmodel_runtime.models.layers import Numerics
from openmodel_runtime.models.registry import weight_parts
from openmodel_runtime.parallel.matrix_shard import MatrixShard
from openmodel_runtime.parallel.placement import Slots, plan_placement
from openmodel_runtime.parallel.shard import parts_of_slots

from .pages import page_with
from .plans import PAGE, config_of, request, table
from .published import GROK_1_BILLIONS, MODELS
from .shapes import shape_of


@pytest.mark.parametrize("name", [*MODELS, "Grok-1"])
def test_shapes_add_up(name: str) -> None:
    shape = shape_of(config_of(name))
    total = shape.replicated + shape.expert * shape.experts * shape.routed_layers
    billions = GROK_1_BILLIONS if name == "Grok-1" else MODELS[name].billions
    assert total / 1e9 == pytest.approx(billions, rel=0.01)
    assert request(1, 2.0, 1).memory_bytes == 80 << 30


@pytest.mark.parametrize(("name", "gigabytes"), [("Mixtral-8x7B", 93.4), ("gpt-oss-120b", 65.2)])
def test_what_one_rank_reads_is_the_published_checkpoint(name: str, gigabytes: float) -> None:
    plan = plan_memory(shape_of(config_of(name)), replace(request(1, 2.0, 1), memory_bytes=1 << 40))
    assert isinstance(plan, MemoryPlan)
    assert plan.read_bytes / 1e9 == pytest.approx(gigabytes, rel=0.01)


@pytest.mark.parametrize("name", ["Mixtral-8x7B", "Grok-1", "gpt-oss-120b", "DeepSeek-V3"])
@pytest.mark.parametrize(("ranks", "redundant"), [(2, 0), (3, 0), (8, 0), (8, 4)])
def test_what_the_fullest_rank_holds_is_what_the_planner_says(name: str, ranks: int, redundant: int) -> None:
    config = config_of(name)
    experts = config.experts
    assert experts is not None
    placement = plan_placement(sorted(experts.layers), experts.count, ranks, redundant)
    held = max(map(numbers_of, (held_weights(config, placement.of_rank(rank)) for rank in range(ranks))))
    asked = replace(request(ranks, 2.0, 1), redundant_experts=redundant)
    assert 2 * held == pytest.approx(weights_per_rank(shape_of(config), asked, ranks), rel=1e-6)


@pytest.mark.parametrize("name", ["Llama-2-7b", "Llama-3.1-8B", "Qwen2-7B"])
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_what_a_rank_has_of_each_matrix_is_what_the_planner_says(name: str, ranks: int) -> None:
    config = config_of(name)
    held = max(
        numbers_of(CausalLM(MatrixShard(rank, ranks).config(config), Numerics(ReferenceKernels(), torch.bfloat16)))
        for rank in range(ranks)
    )
    asked = replace(request(ranks, 2.0, 1), tensor=True)
    assert 2 * held == pytest.approx(weights_per_rank(shape_of(config), asked, ranks), rel=1e-3)


@pytest.mark.parametrize("name", ["Mixtral-8x7B", "Grok-1", "gpt-oss-120b", "DeepSeek-V3"])
def test_ranks_read_each_expert_once_and_the_rest_each(name: str) -> None:
    config = config_of(name)
    experts = config.experts
    assert experts is not None
    placement = plan_placement(sorted(experts.layers), experts.count, 3)
    every = weight_parts(config)
    read = [list(parts_of_slots(every, placement.of_rank(rank))) for rank in range(3)]
    counts = Counter((part.name, part.source, part.parameter) for parts in read for part in parts)
    for part in every:
        of_expert = ".experts." in part.parameter and part.index
        assert counts[part.name, part.source, part.parameter] == (1 if of_expert else 3), part


def held_weights(config: ModelConfig, slots: dict[int, Slots]) -> CausalLM:
    held = {layer: len(experts) for layer, experts in slots.items()}
    return CausalLM(config, Numerics(ReferenceKernels(), torch.bfloat16), held)


def numbers_of(model: CausalLM) -> int:
    return sum(math.prod(weight.shape) for weight in model.weights().values())


def test_the_page_is_what_the_planner_says() -> None:
    assert PAGE.read_text() == page_with(PAGE, table())
