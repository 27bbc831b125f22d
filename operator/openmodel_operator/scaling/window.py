"""What was called for of late, look by look. Pure.

Looks come when they come: two of them are needed to say that something lasted, and after a long gap nothing is known.
"""

from __future__ import annotations

from dataclasses import dataclass

# A longer silence says nothing of what was called for meanwhile.
_GAP_SECONDS = 120.0
# What is older than this is kept as one number for each sixtieth of the window: its greatest.
_RECENT_SECONDS = 60.0
_BUCKETS = 60

Entry = tuple[float, int]
"""A time, in seconds of a steady clock, and a count."""


@dataclass(frozen=True, slots=True)
class Window:
    """Counts, the oldest first."""

    entries: tuple[Entry, ...] = ()

    def add(self, now: float, count: int, keep: float) -> Window:
        """With a count more; what is older than `keep` seconds goes, but for the newest of that."""
        if not self.entries or now - self.entries[-1][0] > _GAP_SECONDS:
            return Window(((now, count),))
        late = [entry for entry in self.entries if entry[0] > now - keep]
        older = self.entries[: len(self.entries) - len(late)]
        return Window((*older[-1:], *_thinned(late, now - _RECENT_SECONDS, keep / _BUCKETS), (now, count)))

    def covers(self, seconds: float) -> bool:
        """Whether it is known what was called for so long."""
        return bool(self.entries) and self.entries[-1][0] - self.entries[0][0] >= seconds

    def least(self, seconds: float) -> int:
        """Of the last so many seconds, and of two looks at least, if there were two."""
        return min(self._late(seconds))

    def most(self, seconds: float) -> int:
        """As above."""
        return max(self._late(seconds))

    def _late(self, seconds: float) -> list[int]:
        now = self.entries[-1][0]
        late = [count for at, count in self.entries if at > now - seconds]
        return [count for _, count in self.entries[-2:]] if len(late) < 2 else late


def _thinned(entries: list[Entry], recent: float, width: float) -> list[Entry]:
    kept: list[Entry] = []
    for at, count in entries:
        if kept and at < recent and int(at / width) == int(kept[-1][0] / width):
            kept[-1] = (kept[-1][0], max(kept[-1][1], count))
        else:
            kept.append((at, count))
    return kept
