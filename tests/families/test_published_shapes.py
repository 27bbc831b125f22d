"""Published models at their real size, on no memory: every tensor has a place, every parameter is filled, shapes agree.

What is compared with is not our own map: transformers' modules with the published hyperparameters, under the names they
are saved by, and index files that were published with the weights.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers.core_model_loading import revert_weight_conversion

from openmodel_kernels.reference.kernels import ReferenceKernels
from openmodel_runtime.checkpoint.config_fields import ConfigFields
from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.models.causal_lm import CausalLM
from openmodel_runtime.models.family import WeightPart
from openmodel_runtime.models.layers import Numerics
from openmodel_runtime.models.registry import read_model_config, weight_parts

from .published import GROK_1, GROK_1_BILLIONS, INDEXES, MODELS, PublishedIndex


def parts_of(config: ModelConfig) -> list[WeightPart]:
    return weight_parts(config)


def names_of(parts: list[WeightPart]) -> set[str]:
    return {name for part in parts for name in part.names}


def places(config: ModelConfig) -> Iterator[tuple[WeightPart, Tensor]]:
    """Each part with the place it fills, without memory; every parameter is filled to its last element."""
    weights = CausalLM(config, Numerics(ReferenceKernels(), torch.bfloat16)).weights()
    by_weight: dict[str, list[WeightPart]] = defaultdict(list)
    for part in parts_of(config):
        by_weight[part.parameter].append(part)
    assert by_weight.keys() == weights.keys()
    for name, weight in weights.items():
        target = torch.empty(weight.shape, device="meta")
        filled = 0
        for part in by_weight[name]:
            place = target[part.index or ...]
            filled += place.numel()
            yield part, place
        assert filled == target.numel(), name


def check(config: ModelConfig, tensors: dict[str, Tensor]) -> None:
    wanted = names_of(parts_of(config))
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    assert wanted - tensors.keys() == set()
    assert tensors.keys() - wanted - tied == set()
    for part, place in places(config):
        read = [tensors[name][part.source or ...] for name in part.names]
        made = part.make(*read) if part.make else read[0]
        assert made.shape == place.shape, part


def parameters(config: ModelConfig) -> int:
    return sum(math.prod(weight.shape) for weight in CausalLM(config, _NUMERICS).weights().values())


_NUMERICS = Numerics(ReferenceKernels(), torch.bfloat16)


def as_published(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """config.json and the tensors that would be saved, on no memory."""
    published = MODELS[name]
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(published.config(**published.options))
    raw = model.config.to_dict() | {"architectures": [type(model).__name__]}
    return raw, revert_weight_conversion(model, model.state_dict())


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_has_its_place(name: str) -> None:
    raw, tensors = as_published(name)
    config = read_model_config(ConfigFields(raw))
    check(config, tensors)
    assert parameters(config) / 1e9 == pytest.approx(MODELS[name].billions, rel=0.005)


@pytest.mark.parametrize("name", ["gpt-oss-20b", "gpt-oss-120b"])
def test_gpt_oss_in_mxfp4(name: str) -> None:
    raw, tensors = as_published(name)
    for tensor in [tensor for tensor in tensors if tensor.endswith(("gate_up_proj", "down_proj"))]:
        experts, inputs, outputs = tensors.pop(tensor).shape
        blocks = torch.empty((experts, outputs, inputs // 32, 16), dtype=torch.uint8, device="meta")
        tensors |= {f"{tensor}_blocks": blocks, f"{tensor}_scales": blocks[..., 0]}
    config = read_model_config(ConfigFields(raw | {"quantization_config": {"quant_method": "mxfp4"}}))
    assert names_of(parts_of(config)) == tensors.keys()
    for part, place in places(config):
        # A table is looked up in, which takes numbers: shapes alone.
        shape = tensors[part.name][part.source or ...].shape
        made = (*shape[:-2], shape[-2] * 32) if part.name.endswith("_blocks") else shape
        assert math.prod(made) == place.numel(), part


def test_grok_1() -> None:
    config = read_model_config(ConfigFields(GROK_1))
    for _ in places(config):
        pass
    assert parameters(config) / 1e9 == pytest.approx(GROK_1_BILLIONS, rel=0.01)


@pytest.mark.parametrize("name", INDEXES)
def test_published_index_files(name: str) -> None:
    index: PublishedIndex = INDEXES[name]
    config = read_model_config(ConfigFields(index.config))
    names = sorted(names_of(parts_of(config)))
    assert len(names) == index.tensors
    assert hashlib.sha256("\n".join(names).encode()).hexdigest() == index.names_sha256
    assert 2 * parameters(config) == index.total_size
