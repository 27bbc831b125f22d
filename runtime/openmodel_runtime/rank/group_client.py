"""The ranks of this pod as the front sees them: one that takes requests.

A request belongs to one rank, the one with the fewest under way; its keys and values stay there. All ranks of a group
step together, so whoever gives a request to one calls the others too. Knows no process and no tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from openmodel_runtime.rank.client import TokenSink
from openmodel_runtime.request import SamplingParams


class Rank(Protocol):
    """What it needs of each; see `RankClient`."""

    @property
    def under_way(self) -> int:
        """Requests that have not ended."""

    def submit(self, prompt: tuple[int, ...], sampling: SamplingParams, sink: TokenSink, bell: int) -> int:
        """Asks for a completion."""

    def ring(self, bell: int) -> None:
        """Tells a rank that another has work."""

    def abort(self, request_id: int) -> None:
        """Ends a request."""


class GroupClient:
    """All ranks of a group."""

    def __init__(self, ranks: Sequence[Rank]) -> None:
        self._ranks = ranks
        # Each call has a number of its own: while ranks have heard different ones, none of them goes to rest.
        self._bell = 0

    def submit(self, prompt: tuple[int, ...], sampling: SamplingParams, sink: TokenSink) -> int:
        """Asks for a completion, whose tokens go to `sink`; returns the id to abort it by. Raises Unavailable."""
        self._bell += 1
        chosen = min(range(len(self._ranks)), key=lambda rank: self._ranks[rank].under_way)
        request_id = self._ranks[chosen].submit(prompt, sampling, sink, self._bell)
        for rank, other in enumerate(self._ranks):
            if rank != chosen:
                other.ring(self._bell)
        return request_id * len(self._ranks) + chosen

    def abort(self, request_id: int) -> None:
        """Ends a request, if it has not ended: its sink hears nothing more, and the rank frees what it holds."""
        of_rank, rank = divmod(request_id, len(self._ranks))
        self._ranks[rank].abort(of_rank)
