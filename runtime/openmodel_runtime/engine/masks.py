"""Masks of structured completions, computed in a thread of their own beside the model's step."""

from __future__ import annotations

from collections.abc import Sequence as Items
from concurrent.futures import Future, ThreadPoolExecutor

from llguidance import LLExecutor

from openmodel_runtime.engine.grammar import Mask, compute_masks
from openmodel_runtime.engine.sequence import Sequence, SequenceFailed
from openmodel_runtime.errors import InvalidRequest

Masks = list[Mask | None]


class MaskWorker:
    """Computes the masks of a step while the model computes its logits."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "masks")
        # One thread: the others are the model's.
        self._executor = LLExecutor(1)

    def begin(self, sequences: Items[Sequence]) -> Future[Masks]:
        """Starts on the masks of all that sample; None where any token may come.

        The future raises SequenceFailed for one whose grammar is beyond its limits.
        """
        if any(sequence.matcher is not None for sequence in sequences):
            return self._thread.submit(self._masks, sequences)
        nothing: Future[Masks] = Future()
        nothing.set_result([None] * len(sequences))
        return nothing

    def _masks(self, sequences: Items[Sequence]) -> Masks:
        matchers = {row: each.matcher for row, each in enumerate(sequences) if each.matcher is not None}
        for row, matcher in matchers.items():
            matcher.follow(sequences[row].completion)
        computed = compute_masks(self._executor, list(matchers.values()))
        for row, matcher in matchers.items():
            try:
                matcher.check()
            except InvalidRequest as error:
                raise SequenceFailed(sequences[row], error) from None
        masks: Masks = [None] * len(sequences)
        for row, mask in zip(matchers, computed, strict=True):
            masks[row] = mask
        return masks
