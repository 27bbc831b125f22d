"""Qwen3-MoE: Qwen3's attention, and many small experts in all or some blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from openmodel_runtime.checkpoint.config_fields import ConfigFields
from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.models.checkpoint_names import attention_weights, dense_weights, expert_weights, stem_weights
from openmodel_runtime.models.family import ModelFamily, WeightPart
from openmodel_runtime.models.standard_config import experts_config, standard_config


def _routed_layers(fields: ConfigFields, layers: int) -> frozenset[int]:
    step, dense = fields.size("decoder_sparse_step", 1), set(fields.items("mlp_only_layers"))
    return frozenset(layer for layer in range(layers) if layer not in dense and (layer + 1) % step == 0)


def _configure(fields: ConfigFields) -> ModelConfig:
    config = standard_config(fields, quantization=("fp8",))
    window = fields.optional_size("sliding_window") if fields.flag("use_sliding_window") else None
    attention = replace(config.attention, norm_heads=True, windows=(window,) * config.num_layers)
    layers = _routed_layers(fields, config.num_layers)
    # Newer files have the name that most families use.
    experts = experts_config(fields, ("num_experts", "num_local_experts"), "moe_intermediate_size", layers)
    # Published checkpoints say true; the default is the library's.
    experts = replace(experts, renormalize=fields.flag("norm_topk_prob", False))
    return replace(config, attention=attention, experts=experts)


def _weights(config: ModelConfig) -> Iterator[WeightPart]:
    yield from stem_weights(config)
    yield from attention_weights(config)
    yield from dense_weights(config)
    yield from expert_weights(config, "mlp")


QWEN3_MOE = ModelFamily(configure=_configure, weights=_weights)
