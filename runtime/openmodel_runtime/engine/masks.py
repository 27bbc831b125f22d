"""Masks of structured completions, computed in a thread of their own beside the model's step."""

from __future__ import annotations

from collections.abc import Sequence as Items
from concurrent.futures import Future, ThreadPoolExecutor

from openmodel_runtime.engine.grammar import Mask
from openmodel_runtime.engine.sequence import Sequence, SequenceFailed
from openmodel_runtime.errors import InvalidRequest

Masks = list[Mask | None]


class MaskWorker:
    """Computes the masks of a step while the model computes its logits."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "masks")

    def begin(self, sequences: Items[Sequence]) -> Future[Masks]:
        """Starts on the masks of all that sample; None where any token may come.

        The future raises SequenceFailed for one whose grammar is beyond its limits.
        """
        if any(sequence.matcher is not None for sequence in sequences):
            return self._thread.submit(_masks, sequences)
        nothing: Future[Masks] = Future()
        nothing.set_result([None] * len(sequences))
        return nothing


def _masks(sequences: Items[Sequence]) -> Masks:
    return [None if sequence.matcher is None else _mask(sequence) for sequence in sequences]


def _mask(sequence: Sequence) -> Mask:
    assert sequence.matcher is not None
    try:
        return sequence.matcher.mask(sequence.completion)
    except InvalidRequest as error:
        raise SequenceFailed(sequence, error) from None
