"""What the experts had to do of late: what a rank counts in all, made into counts that fade. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_HALF_LIFE_SECONDS = 60.0
_ENOUGH = 1000
"""Rows of each rank in each layer: what chance alone makes uneven is a few percent then."""
Counts = Mapping[int, Sequence[int]]
"""Tokens by expert, of each layer."""


class LoadWindow:
    """The experts' load, what is older counting less: half after a minute."""

    def __init__(self) -> None:
        self._teller = ""
        self._told: Counts = {}
        self._at = 0.0
        self.recent: dict[int, list[float]] = {}
        """Tokens by expert, of each layer."""

    def add(self, teller: str, counts: Counts, now: float) -> None:
        """What a rank has counted since it began; `now` in seconds. Of another rank than before, what it adds to it."""
        if teller == self._teller and counts.keys() == self._told.keys():
            kept = 0.5 ** ((now - self._at) / _HALF_LIFE_SECONDS)
            self.recent = {
                layer: [
                    kept * old + new - before
                    for old, new, before in zip(
                        self.recent.get(layer, [0.0] * len(numbers)), numbers, self._told[layer], strict=True
                    )
                ]
                for layer, numbers in counts.items()
            }
        self._teller, self._told, self._at = teller, counts, now

    def enough(self, ranks: int) -> bool:
        """True when it says more than chance does, about so many ranks."""
        return bool(self.recent) and all(sum(numbers) >= _ENOUGH * ranks for numbers in self.recent.values())
