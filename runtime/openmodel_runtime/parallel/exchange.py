"""A step of a group: who has how many tokens, tokens to the experts' ranks, and what experts made of them back.

Every rank sees all tokens of a step and computes the routing of all, so it knows the size of everything that is sent:
two exchanges a layer, and no word about sizes before. Each number is computed by one rank from the same bits as if it
were alone, and the owner adds a token's experts in the order of its slots: the group's size changes no bit.

T tokens of this rank, U of all ranks, K experts a token, R rows that this rank's experts compute.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openmodel_kernels.interface import Routing
from openmodel_runtime.models.block_input import ExpertRows
from openmodel_runtime.parallel.expert_load import ExpertLoad
from openmodel_runtime.parallel.mailbox import Mailbox
from openmodel_runtime.parallel.opening import open_step
from openmodel_runtime.parallel.placement import Placement
from openmodel_runtime.parallel.step_group import OpenedStep, StepOpening

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Routes:
    """Of one layer, for tokens of each rank: which rank computes an expert, and in which slot."""

    rank_PE: Integers
    slot_PE: Integers


class GroupExchange:
    """The exchanges of one rank with its group, for one step at a time."""

    def __init__(self, mailbox: Mailbox, placement: Placement, experts: int, load: ExpertLoad) -> None:
        """`load` counts where tokens go."""
        self._mailbox = mailbox
        self._load = load
        self._rank = mailbox.rank
        self._ranks = mailbox.ranks
        self._routes = {layer: _routes(placement, layer, experts) for layer in placement.layers}
        self._rows: list[int] = []
        self._owner_U: Integers = np.empty(0, np.int64)
        self._first = 0
        self.waiting = False
        self.swapping_seconds = 0.0
        """True while others are waited for."""

    @property
    def experts(self) -> GroupExchange:
        """See `StepExchange`."""
        return self

    @property
    def matrices(self) -> None:
        """All are whole."""
        return None

    def open(self, told: StepOpening) -> OpenedStep:
        """Begins a step: tells the others what this rank has."""
        self.waiting = True
        opened, self._rows = open_step(self._mailbox, told)
        self.waiting = False
        self._owner_U = np.repeat(np.arange(self._ranks), self._rows)
        self._first = sum(self._rows[: self._rank])
        return opened

    def stop(self) -> None:
        """Ends all waiting for other ranks; may be called in any thread."""
        self._mailbox.stop()

    def run(
        self,
        layer: int,
        x_TD: Tensor,
        route: Callable[[Tensor], Routing],
        compute: Callable[[Tensor, Tensor], Tensor],
    ) -> ExpertRows:
        """See `ExpertExchange.run`."""
        gathered_UD = self._gather(x_TD)
        routing = route(gathered_UD)
        experts_UK = routing.experts_TK.cpu().numpy()
        self._load.count(layer, experts_UK)
        routes = self._routes[layer]
        rank_UK = routes.rank_PE[self._owner_U[:, None], experts_UK]
        mine_UK = rank_UK == self._rank
        token_R = mine_UK.nonzero()[0]
        slot_R = routes.slot_PE[self._owner_U[token_R], experts_UK[mine_UK]]
        device = x_TD.device
        rows_RD = compute(
            gathered_UD.index_select(0, torch.from_numpy(token_R).to(device)),
            torch.from_numpy(slot_R.astype(np.int32)).to(device),
        )
        own = slice(self._first, self._first + x_TD.shape[0])
        rank_TK = rank_UK[own]
        sizes_back = np.bincount(rank_TK.ravel(), minlength=self._ranks)
        sizes_there = np.bincount(self._owner_U[token_R], minlength=self._ranks)
        back_RD = self._exchange(rows_RD, _slices(sizes_there), sizes_back)
        return ExpertRows(back_RD, _places(rank_TK).to(device), routing.weights_TK[own])

    def _gather(self, x_TD: Tensor) -> Tensor:
        """All ranks' rows, in the order of ranks."""
        return self._exchange(x_TD, [slice(0, x_TD.shape[0])] * self._ranks, self._rows)

    def _exchange(self, rows_XD: Tensor, send: Sequence[slice], receive: Sequence[int] | Integers) -> Tensor:
        """Some of the rows to each rank, and what they send, in the order of ranks."""
        out_XD = rows_XD.new_empty((int(sum(receive)), rows_XD.shape[1]))
        arriving = _slices(receive)
        out_XD[arriving[self._rank]] = rows_XD[send[self._rank]]
        began, self.waiting = time.perf_counter(), True
        self._mailbox.swap([rows_XD[part] for part in send], [out_XD[part] for part in arriving])
        self.waiting = False
        self.swapping_seconds += time.perf_counter() - began
        return out_XD


def _slices(sizes: Sequence[int] | Integers) -> list[slice]:
    """Stretches of these sizes, one after another."""
    ends = np.cumsum(sizes).tolist()
    return [slice(int(end - size), int(end)) for size, end in zip(sizes, ends, strict=True)]


def _routes(placement: Placement, layer: int, experts: int) -> _Routes:
    tables = [placement.routes(layer, experts, rank) for rank in range(placement.ranks)]
    return _Routes(np.array([ranks for ranks, _ in tables]), np.array([slots for _, slots in tables]))


def _places(rank_TK: Integers) -> Tensor:
    """Where each token's each expert comes back: ranks one after another, each in the order of tokens and slots."""
    order = rank_TK.ravel().argsort(kind="stable")
    places = np.empty(order.size, np.int32)
    places[order] = np.arange(order.size, dtype=np.int32)
    return torch.from_numpy(places.reshape(rank_TK.shape))
