"""What a family of models tells the rest: how to build it, and where each checkpoint tensor goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.models.blocks import CausalLM
from openmodel_runtime.models.layers import Numerics


@dataclass(frozen=True, slots=True)
class WeightPart:
    """One tensor of the checkpoint and its place in a parameter of ours."""

    name: str
    """Name in the checkpoint."""
    parameter: str
    """Path of the parameter in the model."""
    index: tuple[int | slice, ...] = ()
    """The part of the parameter that the tensor fills; () is all of it."""


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """A family: built empty, filled by the loader from `weights`."""

    build: Callable[[ModelConfig, Numerics], CausalLM]
    weights: Callable[[ModelConfig], Iterator[WeightPart]]
