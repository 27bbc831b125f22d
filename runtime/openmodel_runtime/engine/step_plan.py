"""What a step computes, in numbers that can be sent to ranks that compute it together. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from openmodel_runtime.engine.sequence import Batch


@dataclass(slots=True)
class PlannedRows:
    """The tokens of one sequence."""

    tokens: Sequence[int]
    start: int
    """Position of the first."""
    blocks: Sequence[int]
    """Of the cache, those of the whole sequence."""


@dataclass(slots=True)
class StepPlan:
    """All sequences of a step, one after another."""

    rows: list[PlannedRows] = field(default_factory=list)
    sampled: list[int] = field(default_factory=list)
    """Rows whose next token is wanted."""

    @classmethod
    def of(cls, batch: Batch) -> StepPlan:
        """The plan of a batch."""
        plan, count = cls(), 0
        for item in batch.scheduled:
            sequence, start = item.sequence, item.sequence.num_computed
            plan.rows.append(PlannedRows(sequence.tokens[start : start + item.num_tokens], start, sequence.blocks))
            count += item.num_tokens
            if item.samples:
                plan.sampled.append(count - 1)
        return plan

    def numbers(self) -> list[int]:
        """The rows, without what is sampled: whoever decided that samples."""
        found = []
        for row in self.rows:
            found += [len(row.tokens), row.start, len(row.blocks), *row.tokens, *row.blocks]
        return found

    @classmethod
    def from_numbers(cls, numbers: Sequence[int]) -> StepPlan:
        """The plan whose rows these are; nothing is sampled."""
        plan, at = cls(), 0
        while at < len(numbers):
            tokens, start, blocks = numbers[at : at + 3]
            first, last = at + 3 + tokens, at + 3 + tokens + blocks
            plan.rows.append(PlannedRows(numbers[at + 3 : first], start, numbers[first:last]))
            at = last
        return plan
