"""From the moments at which tokens arrived to the figures of a round.

Pure, and nothing beyond the standard library: peers use it inside their own environments, so that every engine is
counted by the same rule.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Arrival = tuple[float, int]
"""When tokens of one stream arrived, and how many."""


@dataclass(frozen=True, slots=True)
class Round:
    """One round: all prompts submitted at once, all completions read to their end."""

    seconds: float
    """From submission to the last token of all."""
    first_token_s: float
    """Mean over the streams of the time from submission to the first token."""
    step_s: float
    """Median time between two tokens of a stream while every stream decodes; 0.0 when there are none."""
    tokens: int
    """Output tokens of all streams."""


def summarize(began: float, streams: Sequence[Sequence[Arrival]]) -> Round:
    """The figures of a round that began at `began`."""
    return Round(
        seconds=max(arrivals[-1][0] for arrivals in streams) - began,
        first_token_s=statistics.mean(arrivals[0][0] for arrivals in streams) - began,
        step_s=step_seconds(streams),
        tokens=sum(count for arrivals in streams for _, count in arrivals),
    )


def step_seconds(streams: Sequence[Sequence[Arrival]]) -> float:
    """Median time for one token of a stream, prompts left out.

    Only what lies between the last first token and the first last token counts: before and after, an engine works for
    fewer streams. Where so little overlaps, everything counts. An arrival of several tokens counts as so many steps.
    """
    last_start = max(arrivals[0][0] for arrivals in streams)
    first_end = min(arrivals[-1][0] for arrivals in streams)
    inside = _steps(streams, last_start, first_end)
    if len(inside) < len(streams):
        inside = _steps(streams, float("-inf"), float("inf"))
    return statistics.median(inside) if inside else 0.0


def _steps(streams: Sequence[Sequence[Arrival]], low: float, high: float) -> list[float]:
    return [
        (after - before) / count
        for arrivals in streams
        for (before, _), (after, count) in pairwise(arrivals)
        if low <= before and after <= high
        for _ in range(count)
    ]
