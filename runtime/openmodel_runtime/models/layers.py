"""Layers with weights, in the form that the kernels at hand multiply with.

A weight comes into being as a plain parameter, which the loader fills, and is packed once; after that the parameter is
gone. D input and N output dimension, E experts, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from openmodel_kernels.interface import Kernels, PackedWeight, Routing


@dataclass(frozen=True, slots=True)
class Numerics:
    """What a model computes with."""

    kernels: Kernels
    dtype: torch.dtype

    def parameter(self, *shape: int) -> nn.Parameter:
        """An empty parameter."""
        return nn.Parameter(torch.empty(shape, dtype=self.dtype), requires_grad=False)


class Linear(nn.Module):
    """A weight (N, D), or one an expert (E, N, D), without bias."""

    def __init__(self, numerics: Numerics, *shape: int, gated: bool = False) -> None:
        super().__init__()
        self._kernels = numerics.kernels
        self._gated = gated
        self.weight: nn.Parameter | None = numerics.parameter(*shape)
        self._packed: PackedWeight | None = None

    def pack(self) -> None:
        """Puts the weight into the kernels' form; the parameter is gone."""
        assert self.weight is not None
        self._packed = self._kernels.pack(self.weight.data, gated=self._gated)
        self.weight = None

    @property
    def packed(self) -> PackedWeight:
        """The weight in the kernels' form."""
        assert self._packed is not None
        return self._packed

    def forward(self, x_TD: Tensor, residual_TN: Tensor | None = None) -> Tensor:
        """The product, gated or with a residual added."""
        return self._kernels.linear(x_TD, self.packed, residual_TN)

    def logits(self, x_TD: Tensor) -> Tensor:
        """The product in float32."""
        return self._kernels.logits(x_TD, self.packed)

    def rows(self, index_T: Tensor) -> Tensor:
        """Rows of the weight: an embedding."""
        return self._kernels.rows(self.packed, index_T)


class RMSNorm(nn.Module):
    """Root-mean-square normalization with a gain."""

    def __init__(self, numerics: Numerics, dim: int, eps: float) -> None:
        super().__init__()
        self._kernels = numerics.kernels
        self._eps = eps
        self.weight = numerics.parameter(dim)

    def forward(self, x_TD: Tensor) -> Tensor:
        """Normalizes each row."""
        return self._kernels.rms_norm(x_TD, self.weight, self._eps)


class Experts(nn.Module):
    """The gated feed-forward blocks of all experts."""

    def __init__(self, numerics: Numerics, experts: int, hidden: int, intermediate: int) -> None:
        super().__init__()
        self._kernels = numerics.kernels
        self.gate_up = Linear(numerics, experts, 2 * intermediate, hidden, gated=True)
        self.down = Linear(numerics, experts, hidden, intermediate)

    def forward(self, x_TD: Tensor, routing: Routing, residual_TD: Tensor) -> Tensor:
        """The residual plus the weighted sum of each token's experts."""
        return self._kernels.experts(x_TD, routing, self.gate_up.packed, self.down.packed, residual_TD)


def pack_weights(model: nn.Module) -> None:
    """Packs every linear layer of a filled model, one after another: there is never a second copy of all."""
    for module in model.modules():
        if isinstance(module, Linear):
            module.pack()


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all weights of a packed model."""
    packed = sum(module.packed.nbytes for module in model.modules() if isinstance(module, Linear))
    return packed + sum(parameter.nbytes for parameter in model.parameters())
