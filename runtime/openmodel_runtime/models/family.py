"""What a family of models tells the rest: how to read its configuration, and where each checkpoint tensor goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from openmodel_runtime.checkpoint.config_fields import ConfigFields
from openmodel_runtime.checkpoint.model_config import ModelConfig

Index = tuple[int | slice, ...]


@dataclass(frozen=True, slots=True)
class WeightPart:
    """Some of the checkpoint and its place in a parameter of ours."""

    name: str
    """Name of the checkpoint's tensor."""
    parameter: str
    """Path of the parameter in the model."""
    index: Index = ()
    """The part of the parameter that it fills; () is all of it."""
    source: Index = ()
    """The part of the tensor that is read; () is all of it."""
    more: tuple[str, ...] = ()
    """Tensors that are read with it, the same part of each."""
    make: Callable[..., Tensor] | None = None
    """What is put in place, from the tensors that are read; None is the tensor itself."""

    @property
    def names(self) -> tuple[str, ...]:
        """All tensors that are read."""
        return (self.name, *self.more)


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """A family: its configuration is read, the model built empty, and the loader fills it from `weights`."""

    configure: Callable[[ConfigFields], ModelConfig]
    weights: Callable[[ModelConfig], Iterator[WeightPart]]
