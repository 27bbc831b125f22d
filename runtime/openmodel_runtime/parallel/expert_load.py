"""How many tokens went to each expert of each layer: counted in every step, by all ranks alike.

Every rank computes the routing of all tokens of its group, so each of them knows the load of all experts.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray


class ExpertLoad:
    """Counts since the rank began to step. One thread counts; any may read."""

    def __init__(self, layers: Collection[int], experts: int) -> None:
        self._counts = {layer: np.zeros(experts, np.int64) for layer in layers}

    def count(self, layer: int, experts_UK: NDArray[np.int64]) -> None:
        """Tokens were sent to these experts."""
        counts = self._counts[layer]
        counts += np.bincount(experts_UK.ravel(), minlength=counts.size)

    def counts(self) -> dict[int, list[int]]:
        """Of each layer, tokens by expert."""
        return {layer: counts.tolist() for layer, counts in self._counts.items()}
