"""Layers with weights, in the form that the kernels at hand multiply with.

A weight comes into being as a plain tensor, which the loader fills, and is packed once; after that the tensor is gone.
Layers are plain objects: a step calls hundreds of them, and torch's modules cost more than small products do.
D input and N output dimension, E experts, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    """Something with weights of its own, or with layers that have some."""

    def sublayers(self, path: str = "") -> Iterator[tuple[str, Layer]]:
        """This layer and all below it, by their dotted path."""
        yield path, self
        for name, value in vars(self).items():
            below = value if isinstance(value, list) else [value]
            for index, layer in enumerate(below):
                if isinstance(layer, Layer):
                    inner = f"{name}.{index}" if value is below else name
                    yield from layer.sublayers(f"{path}.{inner}" if path else inner)

    def weights(self) -> dict[str, Tensor]:
        """The tensors to be filled, by their dotted path."""
        return {
            f"{path}.weight": layer.weight
            for path, layer in self.sublayers()
            if isinstance(layer, Linear | RMSNorm) and layer.weight is not None
        }


class Linear(Layer):
    """A weight (N, D), or one an expert (E, N, D), without bias."""

    def __init__(self, numerics: Numerics, *shape: int, gated: bool = False) -> None:
        self._kernels = numerics.kernels
        self._gated = gated
        self.weight: Tensor | None = torch.empty(shape, dtype=numerics.dtype)
        self._packed: PackedWeight | None = None

    def pack(self) -> None:
        """Puts the weight into the kernels' form; the plain one is gone."""
        assert self.weight is not None
        self._packed = self._kernels.pack(self.weight, gated=self._gated)
        self.weight = None

    @property
    def packed(self) -> PackedWeight:
        """The weight in the kernels' form."""
        assert self._packed is not None
        return self._packed

    def __call__(self, x_TD: Tensor, residual_TN: Tensor | None = None) -> Tensor:
        """The product, gated or with a residual added."""
        return self._kernels.linear(x_TD, self.packed, residual_TN)

    def logits(self, x_TD: Tensor) -> Tensor:
        """The product in float32."""
        return self._kernels.logits(x_TD, self.packed)

    def rows(self, index_T: Tensor) -> Tensor:
        """Rows of the weight: an embedding."""
        return self._kernels.rows(self.packed, index_T)


class RMSNorm(Layer):
    """Root-mean-square normalization with a gain."""

    def __init__(self, numerics: Numerics, dim: int, eps: float) -> None:
        self._kernels = numerics.kernels
        self._eps = eps
        self.weight = torch.empty(dim, dtype=numerics.dtype)

    def __call__(self, x_TD: Tensor) -> Tensor:
        """Normalizes each row."""
        return self._kernels.rms_norm(x_TD, self.weight, self._eps)


class Experts(Layer):
    """The gated feed-forward blocks of all experts."""

    def __init__(self, numerics: Numerics, experts: int, hidden: int, intermediate: int) -> None:
        self._kernels = numerics.kernels
        self.gate_up = Linear(numerics, experts, 2 * intermediate, hidden, gated=True)
        self.down = Linear(numerics, experts, hidden, intermediate)

    def __call__(self, x_TD: Tensor, routing: Routing, residual_TD: Tensor) -> Tensor:
        """The residual plus the weighted sum of each token's experts."""
        return self._kernels.experts(x_TD, routing, self.gate_up.packed, self.down.packed, residual_TD)


def pack_weights(model: Layer) -> None:
    """Packs every linear layer of a filled model, one after another: there is never a second copy of all."""
    for _, layer in model.sublayers():
        if isinstance(layer, Linear):
            layer.pack()


def weight_bytes(model: Layer) -> int:
    """Bytes of all weights of a packed model."""
    packed = sum(layer.packed.nbytes for _, layer in model.sublayers() if isinstance(layer, Linear))
    return packed + sum(tensor.nbytes for tensor in model.weights().values())
