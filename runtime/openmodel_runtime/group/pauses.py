"""How long to wait before what has failed is tried again."""

from __future__ import annotations

from collections.abc import Iterator

_FIRST_SECONDS = 1.0
_LONGEST_SECONDS = 60.0


def pauses() -> Iterator[float]:
    """Seconds to wait before each try in a row."""
    pause = _FIRST_SECONDS
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_SECONDS)
