"""Qwen3: Qwen2 without biases, with queries and keys normalized head by head."""

from __future__ import annotations

from dataclasses import replace

from openmodel_runtime.checkpoint.config_fields import ConfigFields
from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.models.families.llama import dense_model_weights
from openmodel_runtime.models.families.qwen2 import windows_of_upper_layers
from openmodel_runtime.models.family import ModelFamily
from openmodel_runtime.models.standard_config import standard_config


def _configure(fields: ConfigFields) -> ModelConfig:
    config = standard_config(fields, quantization=("fp8",))
    windows = windows_of_upper_layers(fields, config.num_layers)
    return replace(config, attention=replace(config.attention, norm_heads=True, windows=windows))


QWEN3 = ModelFamily(configure=_configure, weights=dense_model_weights)
