"""A step of ranks that share each matrix: the first says what is computed, and what all compute in part is added up.

Parts are added in the order of ranks, in float32: a token's numbers depend on how many ranks there are, and on nothing
else in the step.

T tokens of the step, D hidden dimension.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor

from openmodel_runtime.parallel.mailbox import Mailbox
from openmodel_runtime.parallel.opening import open_step
from openmodel_runtime.parallel.step_group import OpenedStep, StepOpening

# Rows for each rank from which on it pays to have every rank add up its share of them.
_ROWS_EACH = 4


class MatrixExchange:
    """The exchanges of one rank with its group, for one step at a time; see `StepExchange` and `SharedMatrices`."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self.waiting = False
        self.swapping_seconds = 0.0
        """True while others are waited for."""

    @property
    def leads(self) -> bool:
        """True for the rank that decides what a step computes."""
        return self._mailbox.rank == 0

    @property
    def experts(self) -> None:
        """There are none."""
        return None

    @property
    def matrices(self) -> MatrixExchange:
        """See `StepExchange`."""
        return self

    def open(self, told: StepOpening) -> OpenedStep:
        """Begins a step: tells the others what this rank has."""
        self.waiting = True
        opened, _ = open_step(self._mailbox, told)
        self.waiting = False
        return opened

    def stop(self) -> None:
        """Ends all waiting for other ranks; may be called in any thread."""
        self._mailbox.stop()

    def least(self, number: int) -> int:
        """The least of what all ranks have."""
        return int(min(part.item() for part in self._gather(torch.tensor([[number]]))))

    def agree(self, plan: list[int]) -> list[int]:
        """The first rank's plan of the step, on every rank."""
        (length, *_) = self._gather(torch.tensor([[len(plan)]]))
        ours = torch.from_numpy(np.array([plan], np.int64))
        if not self.leads:
            ours = torch.empty((1, int(length.item())), dtype=torch.int64)
        nothing = ours[:0]
        others = range(1, self._mailbox.ranks)
        self._swap(
            [nothing, *([ours] * len(others) if self.leads else [nothing] * len(others))],
            [nothing if self.leads else ours, *([nothing] * len(others))],
        )
        told: list[int] = ours[0].tolist()
        return told

    def add(self, part_TD: Tensor, residual_TD: Tensor | None) -> Tensor:
        """See `SharedMatrices.add`."""
        ranks, rows = self._mailbox.ranks, part_TD.shape[0]
        if ranks == 2 or rows < _ROWS_EACH * ranks:
            return _sum(self._gather(part_TD), residual_TD)
        # Every rank adds up some of the rows, and hands them out: less is sent than when each adds up all.
        shares = [slice(rows * rank // ranks, rows * (rank + 1) // ranks) for rank in range(ranks)]
        own = shares[self._mailbox.rank]
        parts = [
            part_TD[own] if rank == self._mailbox.rank else torch.empty_like(part_TD[own]) for rank in range(ranks)
        ]
        self._swap([part_TD[share] for share in shares], parts)
        whole_TD = torch.empty_like(part_TD)
        whole_TD[own] = _sum(parts, None if residual_TD is None else residual_TD[own])
        self._swap([whole_TD[own]] * ranks, [whole_TD[share] for share in shares])
        return whole_TD

    def _gather(self, rows_XD: Tensor) -> list[Tensor]:
        """The same rows of each rank, in the order of ranks."""
        rank = self._mailbox.rank
        parts = [rows_XD if other == rank else torch.empty_like(rows_XD) for other in range(self._mailbox.ranks)]
        self._swap([rows_XD] * self._mailbox.ranks, parts)
        return parts

    def _swap(self, out: list[Tensor], into: list[Tensor]) -> None:
        began, self.waiting = time.perf_counter(), True
        self._mailbox.swap(out, into)
        self.waiting = False
        self.swapping_seconds += time.perf_counter() - began


def _sum(parts: list[Tensor], residual_TD: Tensor | None) -> Tensor:
    total_TD = parts[0].float()
    for part_TD in parts[1:]:
        total_TD += part_TD
    if residual_TD is not None:
        total_TD += residual_TD
    return total_TD.to(parts[0].dtype)
