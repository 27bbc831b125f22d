"""A rank process: reads requests from its socket, steps the engine, writes tokens back.

Ends when the front goes away. A fault in a step ends the process: the front tells the callers and starts it again.
"""

from __future__ import annotations

import logging
import signal
import socket
import time
from contextlib import suppress

from msgspec import structs

from openmodel_runtime.engine.engine import Engine, StepOutcome
from openmodel_runtime.engine.grammar import GrammarMatcher
from openmodel_runtime.engine.memory import held_bytes
from openmodel_runtime.errors import EXIT_START_FAILED, StartError
from openmodel_runtime.parallel.membership import Membership, NextGroup
from openmodel_runtime.parallel.step_group import StepExchange
from openmodel_runtime.rank.channel import Channel
from openmodel_runtime.rank.hearing import Hearing
from openmodel_runtime.rank.inbox import Arrival, Awaited, Closed, Inbox, Item, NoLongerAwaited
from openmodel_runtime.rank.messages import (
    Abort,
    LoadCounts,
    NotMet,
    Pong,
    Regroup,
    Regrouped,
    Ring,
    Start,
    StartFailed,
    StepDone,
)
from openmodel_runtime.rank.progress import Progress
from openmodel_runtime.rank.startup import StartedRank, grammar_compiler, start_rank
from openmodel_runtime.request import RequestFailed

_log = logging.getLogger(__name__)
_WAITING_SECONDS = 0.001


def run_rank(stream: socket.socket) -> int:
    """Serves the front on `stream` until it closes; returns the exit code."""
    channel = Channel(stream)
    # The front decides when a rank ends: a terminal's Ctrl-C and a supervisor's SIGTERM may reach the whole group.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    start = channel.receive()
    if not isinstance(start, Start):
        return 0
    try:
        return _serve(channel, start)
    except (BrokenPipeError, ConnectionResetError):
        _log.info("the front is gone")
    return 0


def _serve(channel: Channel, start: Start) -> int:
    hearing = Hearing(channel)
    try:
        rank = start_rank(start, hearing.weights_read)
    except StartError as error:
        channel.send(StartFailed(error.reason, str(error)))
        return EXIT_START_FAILED
    group = rank.engine.group
    inbox = Inbox(grammar_compiler(start, rank.loaded), (lambda: None) if group is None else group.abandon)
    progress = Progress()

    def pong() -> Pong:
        waits = group is not None and group.exchanging
        return Pong(0.0 if waits else progress.seconds())

    def load() -> LoadCounts:
        return LoadCounts({} if rank.load is None else rank.load.counts())

    hearing.loaded(inbox, pong, load)
    channel.send(rank.loaded)
    _loop(channel, rank, inbox, progress)
    return 0


class _MemoryWatch:
    """Says how much of its bill the rank holds, each time that it holds a tenth more than it said."""

    def __init__(self, billed_bytes: int) -> None:
        self._billed = billed_bytes
        self._said = 0

    def look(self) -> None:
        """Reads what the process holds."""
        held = held_bytes()
        if held > 1.1 * self._said:
            self._said = held
            level = logging.INFO if held <= self._billed else logging.WARNING
            _log.log(level, "memory: the rank holds %d MiB, its bill says %d MiB", held >> 20, self._billed >> 20)


def _loop(channel: Channel, rank: StartedRank, inbox: Inbox, progress: Progress) -> None:
    engine, reports = rank.engine, _Reports(channel, rank.engine)
    memory = _MemoryWatch(rank.loaded.billed_bytes)
    while True:
        items = []
        if engine.idle:
            # Idle: make ready for more, then wait for a message; busy: take what has come, then step.
            while inbox.empty() and engine.warm_cache():
                pass
            memory.look()
            progress.rest()
            items.append(inbox.get())
        progress.turn()
        while not inbox.empty():
            items.append(inbox.get())
        if any(isinstance(item, Closed) for item in items):
            return
        refused = [item for item in items if isinstance(item, RequestFailed)]
        for item in items:
            _take(rank, item, inbox, channel)
        began_ns = time.monotonic_ns()
        reports.send(engine.step(), refused, began_ns)
        if engine.group is not None and engine.group.waiting and not engine.idle:
            # Nobody computes, and something is to come: the processor is for those who make it ready.
            time.sleep(_WAITING_SECONDS)


class _Reports:
    """Tells the front what steps came to, and when the rank has come to another group."""

    def __init__(self, channel: Channel, engine: Engine) -> None:
        self._channel = channel
        self._engine = engine
        self._told = StepDone(outputs=[], running=0, waiting=0, free_tokens=0)
        self._told_group = 0
        self._exchange: StepExchange | None = None
        self._swapped = 0.0

    def send(self, outcome: StepOutcome, refused: list[RequestFailed], began_ns: int) -> None:
        """Tells what is new."""
        group = self._group()
        if group > self._told_group:
            self._told_group = group
            self._channel.send(Regrouped(group))
        scheduler = self._engine.scheduler
        step = StepDone(
            outputs=outcome.outputs,
            failed=refused + outcome.failed,
            admitted=list(outcome.admitted),
            began_ns=began_ns if outcome.admitted else 0,
            swapping_seconds=self._swapping() if outcome.outputs or outcome.admitted else 0.0,
            running=scheduler.num_running,
            waiting=scheduler.num_waiting,
            waiting_tokens=scheduler.waiting_tokens,
            free_tokens=scheduler.free_tokens,
        )
        if step != self._told:
            self._told = structs.replace(step, outputs=[], failed=[], admitted=[], began_ns=0, swapping_seconds=0.0)
            self._channel.send(step)

    def _swapping(self) -> float:
        """What has been added since it was asked last; of a new group, what it has."""
        exchange = None if self._engine.group is None else self._engine.group.exchange
        if exchange is None:
            return 0.0
        new = exchange.swapping_seconds - (self._swapped if exchange is self._exchange else 0.0)
        self._exchange, self._swapped = exchange, exchange.swapping_seconds
        return new

    def _group(self) -> int:
        group = self._engine.group
        return 0 if group is None else group.epoch


def _take(rank: StartedRank, item: Item, inbox: Inbox, channel: Channel) -> None:
    match item:
        case Arrival():
            rank.engine.submit(item.request, item.matcher)
        case Abort():
            rank.engine.abort(item.request_id)
    if rank.engine.group is not None:
        _tell_group(rank, rank.engine.group, item, inbox, channel)


def _tell_group(rank: StartedRank, group: Membership, item: Item, inbox: Inbox, channel: Channel) -> None:
    match item:
        case Ring():
            group.ring(item.bell)
        case Arrival() | Awaited():
            group.wake(item.bell)
    match item:
        case Awaited():
            group.expect(1)
        case RequestFailed() | NoLongerAwaited() | Arrival(matcher=GrammarMatcher()):
            group.expect(-1)
        case Regroup():
            assert rank.regrouper is not None
            if item.broken:
                # Once more: a group that was ready when this was said may have been entered since.
                group.abandon()
            group.prepare(item.epoch)
            rank.regrouper.begin(item, inbox.put_group, lambda epoch: _not_met(channel, epoch))
        case NextGroup():
            group.offer(item)


def _not_met(channel: Channel, epoch: int) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):
        channel.send(NotMet(epoch))
