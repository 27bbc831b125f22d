"""What a rank hears from its front, in a thread of its own from its start to its end.

A sign of life is given at once, also while the model loads or a step computes; a front that has gone while the model
loads ends the rank. The rest goes where it is waited for.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress

from openmodel_runtime.rank.channel import Channel
from openmodel_runtime.rank.inbox import Inbox
from openmodel_runtime.rank.messages import AskLoad, Fit, FromRank, LoadCounts, Ping, Pong, ToRank, WeightsRead

_log = logging.getLogger(__name__)


class Hearing:
    """The receiving end."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._fits: queue.SimpleQueue[Fit] = queue.SimpleQueue()
        self._inbox: Inbox | None = None
        self._answers: dict[type[ToRank], Callable[[], FromRank]] = {
            Ping: lambda: Pong(0.0),
            AskLoad: lambda: LoadCounts({}),
        }
        threading.Thread(target=self._run, name="hearing", daemon=True).start()

    def weights_read(self) -> Fit:
        """Tells the front that the weights are in; returns how to divide what is left of the memory."""
        self._channel.send(WeightsRead())
        return self._fits.get()

    def loaded(self, inbox: Inbox, pong: Callable[[], Pong], load: Callable[[], LoadCounts]) -> None:
        """From now on messages go to `inbox`; the others say what is answered at once."""
        self._answers = {Ping: pong, AskLoad: load}
        self._inbox = inbox

    def _run(self) -> None:
        while (message := self._channel.receive()) is not None:
            if (answer := self._answers.get(type(message))) is not None:
                with suppress(BrokenPipeError, ConnectionResetError):
                    self._channel.send(answer())
            elif isinstance(message, Fit):
                self._fits.put(message)
            elif self._inbox is not None:
                self._inbox.put(message)
        if self._inbox is None:
            _log.info("the front is gone, and the model is not needed")
            os._exit(0)
        self._inbox.close()
