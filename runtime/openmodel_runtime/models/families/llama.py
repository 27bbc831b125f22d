"""Llama 2 and 3, and the dense families that share their shape."""

from __future__ import annotations

from collections.abc import Iterator

from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.models.checkpoint_names import attention_weights, dense_weights, stem_weights
from openmodel_runtime.models.family import ModelFamily, WeightPart
from openmodel_runtime.models.standard_config import standard_config


def dense_model_weights(config: ModelConfig) -> Iterator[WeightPart]:
    """All tensors of a dense model, by Llama's names, which most families keep."""
    yield from stem_weights(config)
    yield from attention_weights(config)
    yield from dense_weights(config)


LLAMA = ModelFamily(configure=standard_config, weights=dense_model_weights)
