"""The ranks of this pod as the front sees them: one that takes requests.

A request belongs to one rank, the one with the fewest under way; its keys and values stay there. All ranks of a group
step together, so whoever gives a request to one calls the others too. Knows no process and no tensor.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Protocol

from openmodel_runtime.errors import Unavailable
from openmodel_runtime.rank.client import TokenSink
from openmodel_runtime.request import SamplingParams

RequestId = tuple[int, int]


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
    """The ranks that take requests."""

    def __init__(self, call_others: Callable[[int], None]) -> None:
        """`call_others` calls the ranks of other pods."""
        # Each has a number that no other gets: an id says whose request it is, also after that one has gone.
        self._ranks: dict[int, Rank] = {}
        # Those that take requests; what the others have was given to them before.
        self._taking: dict[int, Rank] = {}
        self._numbers = itertools.count()
        # Each call has a number of its own: while ranks have heard different ones, none of them goes to rest.
        self._bell = 0
        self._call_others = call_others

    def add(self, rank: Rank) -> None:
        """A rank takes requests from now on."""
        known = (number for number, other in self._ranks.items() if other is rank)
        number = next(known, None)
        number = next(self._numbers) if number is None else number
        self._ranks[number] = self._taking[number] = rank
        # A rank that has not heard the last call would keep the others from resting.
        rank.ring(self._bell)

    def pause(self, rank: Rank) -> None:
        """A rank takes no requests for now; those that it has are still its own."""
        self._taking = {number: other for number, other in self._taking.items() if other is not rank}

    def remove(self, rank: Rank) -> None:
        """A rank has gone."""
        self.pause(rank)
        self._ranks = {number: other for number, other in self._ranks.items() if other is not rank}

    @property
    def takes_requests(self) -> bool:
        """True when some rank does."""
        return bool(self._taking)

    def submit(self, prompt: tuple[int, ...], sampling: SamplingParams, sink: TokenSink) -> RequestId:
        """Asks for a completion, whose tokens go to `sink`; returns the id to abort it by. Raises Unavailable."""
        if not self._taking:
            raise Unavailable("no rank takes requests: send the request again")
        self._bell += 1
        chosen = min(self._taking, key=lambda number: self._taking[number].under_way)
        request_id = self._taking[chosen].submit(prompt, sampling, sink, self._bell)
        self._ring(but=chosen)
        self._call_others(self._bell)
        return chosen, request_id

    def hear(self, bell: int) -> None:
        """Some rank of another pod has work, or may have."""
        if bell > self._bell:
            self._bell = bell
            self._ring()

    def _ring(self, but: int | None = None) -> None:
        for number, other in self._ranks.items():
            if number != but:
                other.ring(self._bell)

    def abort(self, request: RequestId) -> None:
        """Ends a request, if it has not ended: its sink hears nothing more, and the rank frees what it holds."""
        number, request_id = request
        if (rank := self._ranks.get(number)) is not None:
            rank.abort(request_id)
