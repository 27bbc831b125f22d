"""A model as the memory planner sees it: what inspections tell of its configuration."""

from __future__ import annotations

from dataclasses import asdict

from openmodel_fetch.shape import summarize_shape
from openmodel_operator.memory_plan import ModelShape
from openmodel_runtime.checkpoint.model_config import ModelConfig


def shape_of(config: ModelConfig) -> ModelShape:
    """Counts of numbers."""
    return ModelShape(**asdict(summarize_shape(config)))
