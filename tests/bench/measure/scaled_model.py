"""A model whose groups come and go, second by second: what a policy for their number does to those who call.

A group takes so many completions at once, reads so many tokens of prompts a second, and needs a while to load; one that
is taken away finishes what it has. Numbers are made up, but the shape is the engine's: a completion that is admitted
runs for its own time, and one that is not waits.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

SLOTS = 64
"""Completions of a group at once."""
PREFILL = 8000
"""Tokens of prompts a second, of a group."""
PROMPT = 1000
"""Tokens of a prompt."""
LOAD_SECONDS = 60
"""From being asked for to serving."""
MEAN_SECONDS = 15.0
"""Of a completion, once it is admitted."""
KV_OF_SLOTS = 0.85
"""Of the cache, when all slots are taken."""

Rate = Callable[[int], float]
"""Second to requests a second."""


class Policy(Protocol):
    """Says how many groups there should be."""

    def groups(self, now: int, model: ScaledModel) -> int:
        """At a second, of a model as it is then."""


@dataclass
class _Group:
    ready_at: int
    ends: list[int] = field(default_factory=list)
    """When its completions end."""


@dataclass
class ScaledModel:
    """What there is at a second."""

    wanted: int
    groups: list[_Group] = field(default_factory=list)
    draining: list[_Group] = field(default_factory=list)
    queue: deque[int] = field(default_factory=deque)
    """When those that wait came."""
    last_activity: int = 0
    first_tokens: list[float] = field(default_factory=list)
    """Seconds from coming to the first token, of those that ended and recent ones."""
    recent: deque[tuple[int, float]] = field(default_factory=deque)

    def ready(self, now: int) -> list[_Group]:
        """Groups that serve."""
        return [group for group in self.groups if group.ready_at <= now]

    def running(self) -> int:
        """Completions that are admitted, of groups that stay."""
        return sum(len(group.ends) for group in self.groups)

    def scale(self, now: int, count: int) -> None:
        """Asks for so many groups; the newest go first."""
        while len(self.groups) < count:
            self.groups.append(_Group(now + LOAD_SECONDS))
        while len(self.groups) > count:
            self.draining.append(self.groups.pop())
        self.wanted = count

    def step(self, now: int, came: int, draw: random.Random) -> None:
        """One second."""
        self.queue.extend([now] * came)
        for group in (*self.groups, *self.draining):
            group.ends = [end for end in group.ends if end > now]
        self.draining = [group for group in self.draining if group.ends]
        for group in sorted(self.ready(now), key=lambda group: len(group.ends)):
            for _ in range(min(SLOTS - len(group.ends), PREFILL // PROMPT, len(self.queue))):
                came_at = self.queue.popleft()
                self.first_tokens.append(now - came_at + PROMPT / PREFILL)
                # Its pod knows it from when there is one.
                self.recent.append((now, now - max(came_at, group.ready_at) + PROMPT / PREFILL))
                group.ends.append(now + max(1, round(draw.expovariate(1 / MEAN_SECONDS))))
        while self.recent and self.recent[0][0] < now - 60:
            self.recent.popleft()
        if came or self.queue or any(group.ends for group in (*self.groups, *self.draining)):
            self.last_activity = now


@dataclass(frozen=True)
class Outcome:
    """What a trace came to."""

    first_tokens: Sequence[float]
    """Seconds, sorted."""
    group_hours: float
    """That were paid for, loading and draining too."""
    used: float
    """Of those, the share of slots that had a completion."""
    changes: int
    """Of the count."""
    reversals: int
    """Changes that took back the one before within ten minutes."""
    curve: Sequence[tuple[float, float]]
    """Second and groups."""

    def percentile(self, share: float) -> float:
        """Of first tokens, in seconds."""
        return self.first_tokens[min(len(self.first_tokens) - 1, int(share * len(self.first_tokens)))]


def simulate(policy: Policy, rate: Rate, seconds: int, first: int, seed: int) -> Outcome:
    """Runs a trace, and then on until the last call is answered."""
    draw = random.Random(seed)
    model = ScaledModel(first)
    model.groups = [_Group(0) for _ in range(first)]
    paid = busy = changes = reversals = 0
    curve, last = [(0.0, float(first))], (0, 0)
    now = 0
    while now < seconds or model.queue:
        came = _poisson(rate(now), draw) if now < seconds else 0
        model.step(now, came, draw)
        count = policy.groups(now, model)
        if count != model.wanted:
            changes += 1
            direction = 1 if count > model.wanted else -1
            reversals += last[1] == -direction and now - last[0] < 600
            last = (now, direction)
            curve += [(float(now), float(model.wanted)), (float(now), float(count))]
            model.scale(now, count)
        everyone = (*model.groups, *model.draining)
        paid += len(everyone)
        busy += sum(len(group.ends) for group in everyone)
        now += 1
    curve.append((float(now), float(model.wanted)))
    return Outcome(
        sorted(model.first_tokens), paid / 3600, busy / max(1, paid * SLOTS), changes, reversals, tuple(curve)
    )


def _poisson(mean: float, draw: random.Random) -> int:
    """Arrivals in a second."""
    count, left = 0, draw.expovariate(1.0)
    while left < mean:
        count += 1
        left += draw.expovariate(1.0)
    return count
