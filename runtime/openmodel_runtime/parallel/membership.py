"""A rank's place in a group that changes: which group it steps with, and when it goes over to the next.

A group is an epoch. The next one is prepared while this one serves, and entered between two steps, when all members say
at an opening that they are ready. A group that broke is left at once; then nothing steps until the next is prepared.
What was not booked is computed again there: a step of a rank is its own, whoever computes the experts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from openmodel_runtime.parallel.mailbox import GroupBroken
from openmodel_runtime.parallel.step_group import StepExchange, StepOpening

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NextGroup:
    """A group that this rank is ready to step with."""

    epoch: int
    exchange: StepExchange | None
    """None: it steps with nobody."""
    enter: Callable[[], None]
    """Puts the experts of this epoch in place."""


class Membership:
    """The group of one rank. Not thread-safe: the thread of the engine owns it."""

    def __init__(self, epoch: int, exchange: StepExchange | None) -> None:
        """Without an exchange, the rank waits for its first group."""
        self.epoch = epoch
        """Of the group that it steps with, or stepped with last."""
        self.exchange = exchange
        """None between two groups."""
        self._bell = 0
        self._resting = True
        self._requests = 0
        self._preparing = 0
        self._next: NextGroup | None = None
        self.waiting = False
        """True when nobody had a token in the step that was opened last."""

    @property
    def resting(self) -> bool:
        """True when no step is to be taken before something comes."""
        return self.exchange is None or self._resting

    @property
    def exchanging(self) -> bool:
        """True while it waits for others; may be asked in any thread."""
        exchange = self.exchange
        return exchange is not None and exchange.waiting

    def ring(self, bell: int) -> None:
        """Some rank has work: this one takes part in the steps from now on, if it has not done so since that call."""
        if bell > self._bell:
            self._bell = bell
            self._resting = False

    def wake(self, bell: int) -> None:
        """This rank has work."""
        self.ring(bell)
        self._resting = False

    def expect(self, requests: int) -> None:
        """So many more requests will come in a moment, or so many fewer: the group does not go to rest before."""
        self._requests += requests

    def prepare(self, epoch: int) -> None:
        """The next group is being prepared; any other that was is forgotten."""
        self._preparing, self._next, self._resting = epoch, None, False

    def offer(self, group: NextGroup) -> None:
        """The next group is prepared."""
        if group.epoch != self._preparing:
            return
        self._next = group
        if self.exchange is None:
            self._change()

    def abandon(self) -> None:
        """The group has lost a member: whoever waits for it waits no longer. May be called in any thread."""
        # The next one first: the engine may go over to it meanwhile, and would wait there for a member that has gone.
        if (group := self._next) is not None and group.exchange is not None:
            group.exchange.stop()
        if (exchange := self.exchange) is not None:
            exchange.stop()

    def open(self, tokens: int) -> bool:
        """Begins a step; False when there is none to compute."""
        if self.exchange is None:
            return False
        told = StepOpening(
            tokens=tokens,
            bell=self._bell,
            awaited=self._requests + (1 if self._preparing else 0),
            next_epoch=0 if self._next is None else self._next.epoch,
        )
        try:
            opened = self.exchange.open(told)
        except GroupBroken as error:
            self.leave(error)
            return False
        if self._next is not None and opened.next_epoch == self._next.epoch:
            self._change()
            return False
        self._resting = opened.resting
        self.waiting = not opened.has_tokens
        return opened.has_tokens

    def leave(self, error: GroupBroken) -> None:
        """The group broke: steps with the next one, if that is prepared, or waits for it."""
        _log.warning("the group of epoch %d broke: %s", self.epoch, error)
        self.exchange = None
        if self._next is not None:
            self._change()

    def _change(self) -> None:
        assert self._next is not None
        group, self._next, self._preparing = self._next, None, 0
        group.enter()
        self.epoch, self.exchange, self._resting = group.epoch, group.exchange, False
