"""Qwen2 and Qwen2.5: Llama's shape, biases in queries, keys and values, and a window in the upper layers if at all."""

from __future__ import annotations

from dataclasses import replace

from openmodel_runtime.checkpoint.config_fields import ConfigFields
from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.models.families.llama import dense_model_weights
from openmodel_runtime.models.family import ModelFamily
from openmodel_runtime.models.standard_config import sliding_windows, standard_config


def windows_of_upper_layers(fields: ConfigFields, layers: int) -> tuple[int | None, ...]:
    """`sliding_window` counts with `use_sliding_window` alone, from layer `max_window_layers` on."""
    if not fields.flag("use_sliding_window"):
        return (None,) * layers
    if fields.has("layer_types"):
        return sliding_windows(fields, layers)
    window, first = fields.optional_size("sliding_window"), int(fields.number("max_window_layers", 28))
    return tuple(window if layer >= first else None for layer in range(layers))


def _configure(fields: ConfigFields) -> ModelConfig:
    config = standard_config(fields)
    attention = replace(
        config.attention,
        qkv_bias=True,
        out_bias=False,
        windows=windows_of_upper_layers(fields, config.num_layers),
    )
    return replace(config, attention=attention)


QWEN2 = ModelFamily(configure=_configure, weights=dense_model_weights)
