"""What ranks tell each other at the opening of a step, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from openmodel_runtime.models.block_input import ExpertExchange


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOpening:
    """What a rank tells."""

    tokens: int
    """That it computes in this step."""
    bell: int
    """The last call to wake up that it has heard: while others have heard another, more is to come."""
    awaited: int
    """What it will have in a moment: requests, or its part in another group."""
    next_epoch: int
    """The epoch that it is ready to change to; 0 for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedStep:
    """What all of them have told together."""

    has_tokens: bool
    """True when some rank has tokens."""
    resting: bool
    """True when nobody has anything, or will have soon."""
    next_epoch: int
    """The epoch that all are ready to change to, instead of computing this step; 0 for none."""


class StepExchange(ExpertExchange, Protocol):
    """The ranks that a rank steps with."""

    waiting: bool
    """True while others are waited for."""

    def open(self, told: StepOpening) -> OpenedStep:
        """Begins a step: tells the others what this rank has. GroupBroken when one of them has gone."""

    def stop(self) -> None:
        """Ends all waiting for other ranks; may be called in any thread."""
