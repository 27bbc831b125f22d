"""The step as every block needs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from openmodel_kernels.interface import LayerCache, Routing


@dataclass(frozen=True, slots=True)
class ExpertRows:
    """What the experts made of a step's tokens, wherever they are. T tokens, K experts a token, R = T * K rows."""

    rows_RD: Tensor
    places_TK: Tensor
    """int32: the row of each token's each expert."""
    weights_TK: Tensor
    """float32."""


class ExpertExchange(Protocol):
    """Ranks that share the experts. Every rank calls `run` for every routed layer in order, also one without tokens."""

    def run(
        self,
        layer: int,
        x_TD: Tensor,
        route: Callable[[Tensor], Routing],
        compute: Callable[[Tensor, Tensor], Tensor],
    ) -> ExpertRows:
        """This rank's tokens through their experts, and other ranks' tokens through the experts of this one.

        Args:
            layer: the routed layer.
            x_TD: this rank's tokens, as experts and router take them.
            route: chooses experts for any rows.
            compute: rows, and the slot of this rank's experts that each goes through, int32, to what comes out.
        """


class SharedMatrices(Protocol):
    """Ranks that share each matrix: every one of them computes a part of what is added to the residual stream."""

    def add(self, part_TD: Tensor, residual_TD: Tensor | None) -> Tensor:
        """The residual plus the parts of all ranks."""


@dataclass(frozen=True, slots=True)
class BlockInput:
    """Made once for all blocks."""

    step: Any
    cos_TC: Tensor
    sin_TC: Tensor
    caches: Sequence[LayerCache]
    query_scale_T: Tensor | None = None
    """Queries are multiplied with it."""
    exchange: ExpertExchange | None = None
    """The ranks that share the experts; None where all experts are here."""
    shared: SharedMatrices | None = None
    """The ranks that share each matrix; None where all of them are whole."""

    def add(
        self, product: Callable[[Tensor, Tensor | None], Tensor], x_TX: Tensor, residual_TD: Tensor | None
    ) -> Tensor:
        """What a matrix that brings back makes, added to the residual."""
        if self.shared is None:
            return product(x_TX, residual_TD)
        return self.shared.add(product(x_TX, None), residual_TD)
