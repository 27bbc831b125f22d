"""How many calls wait for models, within bounds, and who wants to know.

What a waiting call has sent stays unread: it holds no more than a window of its connection, whatever its size.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from openmodel_router.routes import Model

# Nobody knows when a model will be there: a caller that is refused comes back after a while.
RETRY_SECONDS = 2.0


class Full(Exception):
    """As many calls wait as may."""


class Holding:
    """The calls that wait."""

    def __init__(self, most: int, most_per_model: int) -> None:
        self._most = most
        self._most_per_model = most_per_model
        self._listeners: set[Listener] = set()
        self.held: Counter[Model] = Counter()
        """Calls that wait, by model; none of those that nobody waits for."""

    @contextmanager
    def place(self, model: Model, *, again: bool = False) -> Iterator[None]:
        """While a call waits; Full when it may not. One that waits `again`, for its pod was lost, always may."""
        if not again:
            self._check(model)
        self._set(model, self.held[model] + 1)
        try:
            yield
        finally:
            self._set(model, self.held[model] - 1)

    def _check(self, model: Model) -> None:
        if self.held.total() >= self._most:
            raise Full(f"{self._most} calls wait for models already, as many as this router holds")
        if self.held[model] >= self._most_per_model:
            raise Full(f"{self._most_per_model} calls wait for the model already, as many as this router holds of one")

    def _set(self, model: Model, count: int) -> None:
        self.held[model] = count
        if not count:
            del self.held[model]
        for listener in self._listeners:
            listener.changed(model)

    @contextmanager
    def listen(self) -> Iterator[Listener]:
        """Hears of all that is held, and of what changes."""
        listener = Listener(self)
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)


class Listener:
    """Somebody who is told."""

    def __init__(self, holding: Holding) -> None:
        self._holding = holding
        self._changed = set(holding.held)
        self._news = asyncio.Event()
        self._news.set()

    def changed(self, model: Model) -> None:
        """The number of a model is another."""
        self._changed.add(model)
        self._news.set()

    async def news(self) -> dict[Model, int]:
        """The numbers that changed since it was asked last; at first all, of which there may be none."""
        await self._news.wait()
        self._news.clear()
        changed, self._changed = self._changed, set()
        return {model: self._holding.held.get(model, 0) for model in changed}
