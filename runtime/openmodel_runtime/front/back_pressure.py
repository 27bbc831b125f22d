"""How many completions may be under way, and when a caller that is refused should come back.

Pure: the clock is an argument. A refused caller gets a ticket in a queue that moves at the pace at which completions
have been ending, so callers do not all come back at the same moment. Knows no request and no gRPC.
"""

from __future__ import annotations

from collections import deque

from openmodel_runtime.errors import QueueFull

LEAST_SECONDS = 0.1
"""Sooner, a caller would only ask in vain."""
MOST_SECONDS = 30.0
"""Later, it would stay away from places that have long been free."""
# Ends that the pace is taken from, and how far back they may lie.
_MOST_ENDS = 256
_PACE_SECONDS = 30.0
# While nothing has ended, nobody knows the pace.
_UNKNOWN_SECONDS = 1.0


class Busy(QueueFull):
    """Too many completions are under way; `retry_after_ms` says when to try again."""

    def __init__(self, under_way: int, retry_after_seconds: float) -> None:
        super().__init__(
            f"{under_way} completions of this server's requests are under way, as many as it takes: "
            f"try again in {retry_after_seconds:.1f} s"
        )
        self.retry_after_ms = round(retry_after_seconds * 1000)


class Places:
    """Places for completions: a request takes one for each of its completions and gives them back at its end."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._ends: deque[tuple[float, int]] = deque(maxlen=_MOST_ENDS)
        self._next_ticket = 0.0
        self.taken = 0
        """Completions that have not ended."""

    def take(self, count: int, now: float) -> None:
        """Takes `count` places; Busy when there are not so many. `now` is in seconds of any steady clock."""
        if self.taken + count > self._limit:
            raise Busy(self.taken, self._ticket(count, now))
        self.taken += count

    def give_back(self, count: int, now: float) -> None:
        """Their request has ended."""
        self.taken -= count
        self._ends.append((now, count))

    def pace(self, now: float) -> float:
        """Places that became free a second, of late; 0 while that is not known."""
        recent = [(at, count) for at, count in self._ends if now - at < _PACE_SECONDS]
        if not recent:
            return 0.0
        # One end alone says only that there was one since then.
        seconds = max(now - recent[0][0], LEAST_SECONDS)
        return sum(count for _, count in recent) / seconds

    def _ticket(self, count: int, now: float) -> float:
        """Seconds until `count` places will be free for this caller, after all who were refused before."""
        pace = self.pace(now)
        if not pace:
            return _UNKNOWN_SECONDS
        ticket = max(self._next_ticket, now) + count / pace
        # A ticket beyond the bound is told as the bound, and must not hold the next callers' tickets there for ever.
        self._next_ticket = min(ticket, now + MOST_SECONDS)
        return min(max(ticket - now, LEAST_SECONDS), MOST_SECONDS)
