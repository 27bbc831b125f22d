"""Layers with weights, in the form that the kernels at hand multiply with.

Layers are plain objects: a step calls hundreds of them, and torch's modules cost more than small products do.
D input and N output dimension, E experts, T tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from openmodel_kernels.interface import Gate, Kernels, PackedWeight, Routing
from openmodel_runtime.checkpoint.model_config import FeedForwardConfig


@dataclass(frozen=True, slots=True)
class Numerics:
    """What a model computes with."""

    kernels: Kernels
    dtype: torch.dtype
    int8: bool = False
    """Whether matrices are kept in eight bits."""


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

    def __init__(self, numerics: Numerics, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> None:
        self._numerics = numerics
        self._dtype = dtype or numerics.dtype
        self.shape = shape

    @property
    def size(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)

    def allocate(self) -> Tensor:
        """A plain tensor of its shape, for the numbers."""
        return torch.empty(self.shape, dtype=self._dtype)

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

    def __init__(
        self,
        numerics: Numerics,
        shape: tuple[int, ...],
        gate: Gate | None = None,
        bias: Vector | None = None,
        *,
        exact: bool = False,
    ) -> None:
        super().__init__(numerics, shape)
        self._gate = gate
        self._bias = bias
        self._int8 = numerics.int8 and not exact

    def take(self, tensor: Tensor) -> None:
        """Packs the numbers in the kernels' form, with those of the bias, which must be there."""
        bias = None if self._bias is None else self._bias.tensor
        self.packed = self._numerics.kernels.pack(tensor, gate=self._gate, bias_N=bias, int8=self._int8)

    @property
    def nbytes(self) -> int:
        """Bytes of the packed form."""
        return self.packed.nbytes


class Linear(Layer):
    """A product with a weight."""

    def __init__(
        self, numerics: Numerics, *shape: int, gate: Gate | None = None, bias: bool = False, exact: bool = False
    ) -> None:
        self._kernels = numerics.kernels
        # Before the weight, which is packed with it.
        self.bias = Vector(numerics, shape[:-1], torch.float32) if bias else None
        self.weight = Matrix(numerics, shape, gate, self.bias, exact=exact)

    def __call__(self, x_TD: Tensor, residual_TN: Tensor | None = None) -> Tensor:
        """The product, gated or with a residual added."""
        return self._kernels.linear(x_TD, self.weight.packed, residual_TN)

    def logits(self, x_TD: Tensor) -> Tensor:
        """The product in float32."""
        return self._kernels.logits(x_TD, self.weight.packed)

    def rows(self, index_T: Tensor) -> Tensor:
        """Rows of the weight: an embedding."""
        return self._kernels.rows(self.weight.packed, index_T)


class GroupedLinear(Layer):
    """A product of each group with its own weight (G, N, D)."""

    def __init__(self, numerics: Numerics, groups: int, outputs: int, inputs: int) -> None:
        self._kernels = numerics.kernels
        self.weight = Matrix(numerics, (groups, outputs, inputs))

    def __call__(self, x_GTD: Tensor) -> Tensor:
        """The products, (G, T, N)."""
        return self._kernels.grouped_linear(x_GTD, self.weight.packed)


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
    """The gated feed-forward blocks of the experts that are here."""

    def __init__(self, numerics: Numerics, experts: int, hidden: int, config: FeedForwardConfig) -> None:
        self._kernels = numerics.kernels
        width, gate = config.intermediate_size, Gate(config.gate)
        self.gate_up = Linear(numerics, experts, 2 * width, hidden, gate=gate, bias=config.bias)
        self.down = Linear(numerics, experts, hidden, width, bias=config.bias)

    def __call__(self, x_TD: Tensor, routing: Routing, residual_TD: Tensor | None) -> Tensor:
        """The residual plus the weighted sum of each token's experts."""
        return self._kernels.experts(x_TD, routing, self.gate_up.weight.packed, self.down.weight.packed, residual_TD)

    def rows(self, x_RD: Tensor, slots_R: Tensor) -> Tensor:
        """Each row through the expert in its slot."""
        return self._kernels.expert_rows(x_RD, slots_R, self.gate_up.weight.packed, self.down.weight.packed)


def weight_bytes(model: Layer) -> int:
    """Bytes of all weights."""
    return sum(weight.nbytes for weight in model.weights().values())
