"""Masks of structured completions, computed in a thread of their own beside the model's step, or before it.

Beside is for a model that computes elsewhere: where its threads fill the processor, a further one holds up all of them,
which costs several times what the masks do.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from llguidance import LLExecutor
from torch import Tensor

from openmodel_runtime.engine.grammar import Mask, compute_masks
from openmodel_runtime.engine.sequence import Sequence, SequenceFailed
from openmodel_runtime.errors import InvalidRequest

Masks = list[Mask | None]


def in_rows(masks: Masks, vocab_size: int) -> Tensor | None:
    """The masks below one another, uint8, a bit a token of the model, where there are any.

    One that is None allows all. A model's table may have more rows than its tokenizer has tokens: those never come.
    """
    if all(mask is None for mask in masks):
        return None
    rows = np.zeros((len(masks), -(-vocab_size // 8)), np.uint8)
    for row, mask in zip(rows, masks, strict=True):
        if mask is None:
            row[:] = 0xFF
        else:
            row[: mask.size] = mask[: row.size]
    return torch.from_numpy(rows)


class MaskWorker:
    """Computes the masks of a step; `beside`: while the model computes its logits."""

    def __init__(self, *, beside: bool) -> None:
        self._thread = ThreadPoolExecutor(1, "masks") if beside else None
        # One thread: a mask takes microseconds.
        self._executor = LLExecutor(1)

    def begin(self, sequences: Items[Sequence]) -> Future[Masks]:
        """Starts on the masks of all that sample; None where any token may come.

        The future raises SequenceFailed for one whose grammar is beyond its limits.
        """
        structured = any(sequence.matcher is not None for sequence in sequences)
        if structured and self._thread is not None:
            return self._thread.submit(self._masks, sequences)
        done: Future[Masks] = Future()
        try:
            done.set_result(self._masks(sequences) if structured else [None] * len(sequences))
        except SequenceFailed as error:
            # Not before the model has run: other ranks have begun this step, and wait for what it sends.
            done.set_exception(error)
        return done

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
