"""Layers with weights, in the form that the kernels at hand multiply with.

Layers are plain objects: a step calls hundreds of them, and torch's modules cost more than small products do.
D input and N output dimension, E experts, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from openmodel_kernels.interface import Kernels, PackedWeight, Routing


@dataclass(frozen=True, slots=True)
class Numerics:
    """What a model computes with."""

    kernels: Kernels
    dtype: torch.dtype


class Layer:
    """Something with a weight, or with layers that have some."""

    def weights(self, path: str = "") -> dict[str, Weight]:
        """All weights of this layer and those below it, by their dotted path."""
        found: dict[str, Weight] = {}
        for name, value in vars(self).items():
            inner = f"{path}.{name}" if path else name
            if isinstance(value, Weight):
                found[inner] = value
            elif isinstance(value, Layer):
                found |= value.weights(inner)
            elif isinstance(value, list):
                for index, layer in enumerate(value):
                    found |= layer.weights(f"{inner}.{index}")
        return found


class Weight:
    """A weight that comes into being empty and is given its numbers once."""

    def __init__(self, numerics: Numerics, shape: tuple[int, ...]) -> None:
        self._numerics = numerics
        self._shape = shape

    def allocate(self) -> Tensor:
        """A plain tensor of its shape, for the numbers."""
        return torch.empty(self._shape, dtype=self._numerics.dtype)

    def take(self, tensor: Tensor) -> None:
        """Takes the numbers, into whatever form it is used in."""
        raise NotImplementedError

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        raise NotImplementedError


class Vector(Weight):
    """A weight that is used as it is."""

    tensor: Tensor

    def take(self, tensor: Tensor) -> None:
        """Keeps the tensor, where the kernels want it."""
        self.tensor = tensor.to(self._numerics.kernels.device)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return self.tensor.nbytes


class Matrix(Weight):
    """A weight (N, D), or one an expert (E, N, D), that the kernels multiply with."""

    packed: PackedWeight

    def __init__(self, numerics: Numerics, shape: tuple[int, ...], gated: bool) -> None:
        super().__init__(numerics, shape)
        self._gated = gated

    def take(self, tensor: Tensor) -> None:
        """Packs the numbers in the kernels' form."""
        self.packed = self._numerics.kernels.pack(tensor, gated=self._gated)

    @property
    def nbytes(self) -> int:
        """Bytes of the packed form."""
        return self.packed.nbytes


class Linear(Layer):
    """A product with a weight, without bias."""

    def __init__(self, numerics: Numerics, *shape: int, gated: bool = False) -> None:
        self._kernels = numerics.kernels
        self.weight = Matrix(numerics, shape, gated)

    def __call__(self, x_TD: Tensor, residual_TN: Tensor | None = None) -> Tensor:
        """The product, gated or with a residual added."""
        return self._kernels.linear(x_TD, self.weight.packed, residual_TN)

    def logits(self, x_TD: Tensor) -> Tensor:
        """The product in float32."""
        return self._kernels.logits(x_TD, self.weight.packed)

    def rows(self, index_T: Tensor) -> Tensor:
        """Rows of the weight: an embedding."""
        return self._kernels.rows(self.weight.packed, index_T)


class RMSNorm(Layer):
    """Root-mean-square normalization with a gain."""

    def __init__(self, numerics: Numerics, dim: int, eps: float) -> None:
        self._kernels = numerics.kernels
        self._eps = eps
        self.weight = Vector(numerics, (dim,))

    def __call__(self, x_TD: Tensor) -> Tensor:
        """Normalizes each row."""
        return self._kernels.rms_norm(x_TD, self.weight.tensor, self._eps)


class Experts(Layer):
    """The gated feed-forward blocks of all experts."""

    def __init__(self, numerics: Numerics, experts: int, hidden: int, intermediate: int) -> None:
        self._kernels = numerics.kernels
        self.gate_up = Linear(numerics, experts, 2 * intermediate, hidden, gated=True)
        self.down = Linear(numerics, experts, hidden, intermediate)

    def __call__(self, x_TD: Tensor, routing: Routing, residual_TD: Tensor) -> Tensor:
        """The residual plus the weighted sum of each token's experts."""
        return self._kernels.experts(x_TD, routing, self.gate_up.weight.packed, self.down.weight.packed, residual_TD)


def weight_bytes(model: Layer) -> int:
    """Bytes of all weights."""
    return sum(weight.nbytes for weight in model.weights().values())
