"""Whether the loop of a rank goes on: what the front is told when it asks.

Asked in another thread than the one that it tells of, which may hang.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Progress:
    """When the loop took its last turn."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turned: float | None = None

    def turn(self) -> None:
        """A step begins."""
        self._turned = self._clock()

    def rest(self) -> None:
        """The loop waits for something to come."""
        self._turned = None

    def seconds(self) -> float:
        """How long the present step has taken; 0 at rest."""
        turned = self._turned
        return 0.0 if turned is None else self._clock() - turned
