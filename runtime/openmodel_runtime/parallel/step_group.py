"""What ranks tell each other at the opening of a step, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from openmodel_runtime.models.block_input import ExpertExchange, SharedMatrices


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


class SharedStep(SharedMatrices, Protocol):
    """Ranks that share each matrix all compute what the first of them says."""

    @property
    def leads(self) -> bool:
        """True for that one."""

    def agree(self, plan: list[int]) -> list[int]:
        """The first rank's plan of the step, on every rank."""


class StepExchange(Protocol):
    """The ranks that a rank steps with: they share experts, or matrices."""

    waiting: bool
    """True while others are waited for."""
    swapping_seconds: float
    """How long rows went to and fro so far, waiting for others included; not the openings of steps."""

    @property
    def experts(self) -> ExpertExchange | None:
        """Where experts are shared."""

    @property
    def matrices(self) -> SharedStep | None:
        """Where matrices are shared."""

    def open(self, told: StepOpening) -> OpenedStep:
        """Begins a step: tells the others what this rank has. GroupBroken when one of them has gone."""

    def stop(self) -> None:
        """Ends all waiting for other ranks; may be called in any thread."""
