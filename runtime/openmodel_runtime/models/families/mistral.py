"""Mistral and Ministral: Llama's shape, with a window in some or all layers, or queries raised by their position."""

from __future__ import annotations

from openmodel_runtime.models.families.llama import dense_model_weights
from openmodel_runtime.models.family import ModelFamily
from openmodel_runtime.models.standard_config import standard_config

MISTRAL = ModelFamily(configure=standard_config, weights=dense_model_weights)
