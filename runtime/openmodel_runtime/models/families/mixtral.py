"""Mixtral: Mistral's attention, and a mixture of experts in every block (Jiang et al., 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from openmodel_runtime.checkpoint.config_fields import ConfigFields
from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.models.checkpoint_names import attention_weights, expert_weights, stem_weights
from openmodel_runtime.models.family import ModelFamily, WeightPart
from openmodel_runtime.models.standard_config import experts_config, standard_config


def _configure(fields: ConfigFields) -> ModelConfig:
    config = standard_config(fields)
    layers = frozenset(range(config.num_layers))
    return replace(config, experts=experts_config(fields, ("num_local_experts",), "intermediate_size", layers))


def _weights(config: ModelConfig) -> Iterator[WeightPart]:
    yield from stem_weights(config)
    yield from attention_weights(config)
    yield from expert_weights(config, "block_sparse_moe", gate="w1", up="w3", down="w2")


MIXTRAL = ModelFamily(configure=_configure, weights=_weights)
