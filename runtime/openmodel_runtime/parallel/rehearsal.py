"""A step that a rank takes by itself, before it has a group to step with.

What can not run fails then, and the others do not wait for what takes long the first time only. Tokens go to experts
that are here instead of those that were chosen, and parts count as the whole: what comes out is of no use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from openmodel_kernels.interface import Routing
from openmodel_runtime.models.block_input import ExpertRows
from openmodel_runtime.parallel.placement import Slots
from openmodel_runtime.parallel.step_group import OpenedStep, StepOpening


class _Alone:
    """A step with nobody; see `StepExchange`."""

    waiting = False
    swapping_seconds = 0.0

    def open(self, told: StepOpening) -> OpenedStep:
        """There is nobody to tell."""
        return OpenedStep(has_tokens=told.tokens > 0, resting=not told.tokens, next_epoch=0)

    def stop(self) -> None:
        """There is nothing to wait for."""


class ExpertRehearsal(_Alone):
    """Of a rank that shares experts."""

    matrices = None

    def __init__(self, held: Mapping[int, Slots]) -> None:
        self._held = held

    @property
    def experts(self) -> ExpertRehearsal:
        """See `StepExchange`."""
        return self

    def run(
        self,
        layer: int,
        x_TD: Tensor,
        route: Callable[[Tensor], Routing],
        compute: Callable[[Tensor, Tensor], Tensor],
    ) -> ExpertRows:
        """See `ExpertExchange.run`."""
        routing = route(x_TD)
        slots_TK = (routing.experts_TK % max(1, len(self._held[layer]))).to(torch.int32)
        rows_RD = compute(x_TD.repeat_interleave(slots_TK.shape[1], dim=0), slots_TK.flatten())
        places_R = torch.arange(slots_TK.numel(), dtype=torch.int32, device=x_TD.device)
        return ExpertRows(rows_RD, places_R.view(slots_TK.shape), routing.weights_TK)


class MatrixRehearsal(_Alone):
    """Of a rank that shares matrices: its own part counts as all."""

    experts = None
    leads = True

    @property
    def matrices(self) -> MatrixRehearsal:
        """See `StepExchange`."""
        return self

    def agree(self, plan: list[int]) -> list[int]:
        """There is nobody to tell."""
        return plan

    def add(self, part_TD: Tensor, residual_TD: Tensor | None) -> Tensor:
        """See `SharedMatrices.add`."""
        return part_TD if residual_TD is None else part_TD + residual_TD
