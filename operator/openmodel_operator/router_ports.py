"""Which port of the routers is which model's. Pure.

A port is a model's for as long as it has its EndpointSlice, so that a call that comes late by an old way never reaches
another model.
"""

from __future__ import annotations

from collections.abc import Iterable

from openmodel_operator.object_cache import Key

FIRST_PORT = 10000
# From there on a pod's own connections take theirs.
LAST_PORT = 32767


class RouterPorts:
    """Ports by model, as they were seen or given."""

    def __init__(self) -> None:
        self._ports: dict[Key, int] = {}
        self._models: dict[int, Key] = {}
        self._next = FIRST_PORT

    def learn(self, seen: Iterable[tuple[Key, int]]) -> None:
        """Notes what slices say."""
        for key, port in seen:
            if FIRST_PORT <= port <= LAST_PORT and key not in self._ports:
                self._ports[key] = port
                self._models.setdefault(port, key)

    def give(self, key: Key) -> int | None:
        """A model's port, the one it has if no other has it as well; None when there is none left."""
        known = self._ports.get(key)
        if known is not None and self._models.get(known) == key:
            return known
        for _ in range(FIRST_PORT, LAST_PORT + 1):
            port, self._next = self._next, FIRST_PORT if self._next == LAST_PORT else self._next + 1
            if port not in self._models:
                self._ports[key], self._models[port] = port, key
                return port
        return None

    def forget(self, key: Key) -> None:
        """A model is gone, or needs no router any more."""
        port = self._ports.pop(key, None)
        if port is not None and self._models.get(port) == key:
            del self._models[port]
