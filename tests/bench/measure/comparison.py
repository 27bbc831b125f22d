"""From measured rounds to rows: medians, the best peer, how near to the machine's limit.

Pure. Ours and a peer are measured in turn, so each of our rounds has the peer's name beside which it ran; a ratio takes
our rounds beside that peer only, for the machine may have been another an hour before.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.measure.roofline import Limits, ModelShape, decode_tokens_per_s
from bench.measure.timeline import Round

OURS = "openmodel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A round and where it belongs."""

    model: str
    engine: str
    """OURS or the name of a peer."""
    beside: str
    """The peer of the pair; "" where there are no peers."""
    streams: int
    figures: Round
    foreign_cpu: float
    """Share of the processors that others used meanwhile."""


def tokens_per_s(figures: Round) -> float:
    """Output tokens over the whole time of a round, prompts included."""
    return figures.tokens / figures.seconds


def median_of(rounds: Iterable[Measured], value: Callable[[Round], float]) -> float:
    """Median over rounds."""
    return statistics.median(value(item.figures) for item in rounds)


def decode_median(rounds: Iterable[Measured], streams: int) -> float:
    """Tokens a second of all streams while all of them decode."""
    step = median_of(rounds, lambda figures: figures.step_s)
    return streams / step if step else 0.0


def make_rows(
    rounds: Sequence[Measured], shapes: Mapping[str, ModelShape], limits: Limits, context: float
) -> list[dict[str, Any]]:
    """One row for each model and number of streams that ours was measured with."""
    rows = []
    for (model, streams), found in _grouped(rounds).items():
        ours = [item for item in found if item.engine == OURS]
        if not ours:
            continue
        bound = decode_tokens_per_s(shapes[model], limits, streams, context)
        best, ratio = _against_best(found, tokens_per_s, max)
        _, first_ratio = _against_best(found, _first_token, min)
        rows.append(
            {
                "model": model,
                "streams": streams,
                "tokens_per_s": round(median_of(ours, tokens_per_s), 1),
                "best_peer": best,
                "ratio_to_best_peer": ratio,
                "roofline_share": round(decode_median(ours, streams) / bound, 3),
                "first_token_s": round(median_of(ours, _first_token), 4),
                "first_token_ratio": first_ratio,
            }
        )
    return rows


def make_medians(rounds: Sequence[Measured]) -> list[dict[str, Any]]:
    """Every engine's medians, ours among them."""
    medians = []
    for (model, streams), found in _grouped(rounds).items():
        for engine in dict.fromkeys(item.engine for item in found):
            own = [item for item in found if item.engine == engine]
            medians.append(
                {
                    "model": model,
                    "streams": streams,
                    "engine": engine,
                    "tokens_per_s": round(median_of(own, tokens_per_s), 1),
                    "decode_tokens_per_s": round(decode_median(own, streams), 1),
                    "first_token_s": round(median_of(own, _first_token), 4),
                    "step_s": round(median_of(own, lambda figures: figures.step_s), 5),
                    "foreign_cpu": round(max(item.foreign_cpu for item in own), 3),
                }
            )
    return medians


def _against_best(
    found: Sequence[Measured], value: Callable[[Round], float], best_of: Callable[..., str]
) -> tuple[str | None, float | None]:
    """The peer whose median is best, and our median beside it over its own."""
    peers = {item.engine for item in found} - {OURS}
    if not peers:
        return None, None
    medians = {peer: median_of((item for item in found if item.engine == peer), value) for peer in sorted(peers)}
    best = best_of(medians, key=lambda peer: medians[peer])
    ours = median_of((item for item in found if item.engine == OURS and item.beside == best), value)
    return best, round(ours / medians[best], 3)


def _first_token(figures: Round) -> float:
    return figures.first_token_s


def _grouped(rounds: Iterable[Measured]) -> dict[tuple[str, int], list[Measured]]:
    groups: dict[tuple[str, int], list[Measured]] = {}
    for item in rounds:
        groups.setdefault((item.model, item.streams), []).append(item)
    return groups
