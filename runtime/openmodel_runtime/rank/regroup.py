"""Prepares the next group of a rank while it serves with this one, and meets the others."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from openmodel_runtime.config import GroupMember
from openmodel_runtime.parallel.mailbox import GroupBroken, Mailbox
from openmodel_runtime.parallel.meeting import open_mailbox
from openmodel_runtime.parallel.membership import NextGroup
from openmodel_runtime.parallel.placement import Slots
from openmodel_runtime.parallel.step_group import StepExchange
from openmodel_runtime.rank.messages import Regroup

_log = logging.getLogger(__name__)
# The engine's thread waits where this one is put aside with Python's lock in its hand: at 15, beside busy ranks, for
# some tenths of a second.
_NICE = 5
# Whoever can not be met is not asked for without pause.
_AGAIN_SECONDS = 0.2


class Sharing(Protocol):
    """What the ranks of a group share."""

    def prepare(
        self, member: GroupMember, layers: Mapping[int, tuple[Slots, ...]], mailbox: Mailbox, *, urgent: bool
    ) -> tuple[StepExchange, Callable[[], None]]:
        """Gets what this rank will have, and meets the others; GroupBroken when they do not come.

        Args:
            member: this rank's place.
            layers: the experts of each rank, by routed layer.
            mailbox: where all meet.
            urgent: nothing is served until this is done; else what is served comes first.

        Returns:
            How the rank steps with them, and what puts in place what it got.
        """


class Regrouper:
    """Prepares one group at a time."""

    def __init__(self, sharing: Sharing) -> None:
        self._sharing = sharing
        self._meeting: Mailbox | None = None

    def begin(self, message: Regroup, done: Callable[[NextGroup], None], failed: Callable[[int], None]) -> None:
        """Prepares in a thread, and hands the group to `done`. A rank that can not read what it needs ends.

        `failed` hears of the epoch whose members did not come together; not of one that was overtaken by another.
        """
        if self._meeting is not None:
            self._meeting.stop()
            self._meeting = None
        if message.member is None:
            done(NextGroup(message.epoch, None, lambda: None))
            return
        self._meeting = open_mailbox(message.member)
        arguments = (message, message.member, self._meeting, done, failed)
        threading.Thread(target=self._prepare, args=arguments, name="regroup", daemon=True).start()

    def _prepare(
        self,
        message: Regroup,
        member: GroupMember,
        mailbox: Mailbox,
        done: Callable[[NextGroup], None],
        failed: Callable[[int], None],
    ) -> None:
        if not message.broken:
            # Others are served meanwhile: this thread, and those that it starts, take what the engine leaves them.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        try:
            exchange, enter = self._sharing.prepare(member, message.layers, mailbox, urgent=message.broken)
        except GroupBroken as error:
            _log.warning("the group of epoch %d did not come about: %s", member.epoch, error)
            time.sleep(_AGAIN_SECONDS)
            if self._meeting is mailbox:
                failed(member.epoch)
        except Exception:
            _log.exception("epoch %d can not be prepared", member.epoch)
            os._exit(1)
        else:
            if self._meeting is mailbox:
                # It came about: whatever is prepared next, this one goes on until that is entered.
                self._meeting = None
            done(NextGroup(member.epoch, exchange, enter))
