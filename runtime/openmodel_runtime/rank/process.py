"""A rank process: reads requests from its socket, steps the engine, writes tokens back.

Ends when the front goes away. A fault in a step ends the process: the front tells the callers and starts it again.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time

from msgspec import structs

from openmodel_runtime.engine.engine import Engine
from openmodel_runtime.engine.grammar import GrammarMatcher
from openmodel_runtime.engine.memory import held_bytes
from openmodel_runtime.errors import EXIT_START_FAILED, StartError
from openmodel_runtime.parallel.membership import Membership, NextGroup
from openmodel_runtime.rank.inbox import Arrival, Awaited, Closed, Inbox, Item, NoLongerAwaited
from openmodel_runtime.rank.messages import (
    LENGTH_BYTES,
    Abort,
    FromRank,
    Regroup,
    Regrouped,
    Ring,
    Start,
    StartFailed,
    StepDone,
    ToRank,
    body_length,
    decode_to_rank,
    encode,
)
from openmodel_runtime.rank.startup import StartedRank, grammar_compiler, start_rank
from openmodel_runtime.request import RequestFailed, TokenOutput

_log = logging.getLogger(__name__)
_WAITING_SECONDS = 0.001


def run_rank(channel: socket.socket) -> int:
    """Serves the front on `channel` until it closes; returns the exit code."""
    # The front decides when a rank ends: a terminal's Ctrl-C and a supervisor's SIGTERM may reach the whole group.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    start = _receive(channel)
    if not isinstance(start, Start):
        return 0
    try:
        return _serve(channel, start)
    except (BrokenPipeError, ConnectionResetError):
        _log.info("the front is gone")
    return 0


def _serve(channel: socket.socket, start: Start) -> int:
    try:
        rank = start_rank(start)
    except StartError as error:
        _send(channel, StartFailed(error.reason, str(error)))
        return EXIT_START_FAILED
    _send(channel, rank.loaded)
    group = rank.engine.group
    inbox = Inbox(grammar_compiler(start, rank.loaded), (lambda: None) if group is None else group.abandon)
    threading.Thread(target=_read, args=(channel, inbox), daemon=True).start()
    _loop(channel, rank, inbox, _MemoryWatch(rank.loaded.billed_bytes))
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


def _loop(channel: socket.socket, rank: StartedRank, inbox: Inbox, memory: _MemoryWatch) -> None:
    engine, reports = rank.engine, _Reports(channel, rank.engine)
    while True:
        items = []
        if engine.idle:
            # Idle: make ready for more, then wait for a message; busy: take what has come, then step.
            while inbox.empty() and engine.warm_cache():
                pass
            memory.look()
            items.append(inbox.get())
        while not inbox.empty():
            items.append(inbox.get())
        if any(isinstance(item, Closed) for item in items):
            return
        refused = [item for item in items if isinstance(item, RequestFailed)]
        for item in items:
            _take(rank, item, inbox)
        outcome = engine.step()
        reports.send(outcome.outputs, refused + outcome.failed)
        if engine.group is not None and engine.group.waiting and not engine.idle:
            # Nobody computes, and something is to come: the processor is for those who make it ready.
            time.sleep(_WAITING_SECONDS)


class _Reports:
    """Tells the front what steps came to, and when the rank has come to another group."""

    def __init__(self, channel: socket.socket, engine: Engine) -> None:
        self._channel = channel
        self._engine = engine
        self._told = StepDone(outputs=[], running=0, waiting=0, free_tokens=0)
        self._told_group = self._group()

    def send(self, outputs: list[TokenOutput], failed: list[RequestFailed]) -> None:
        """Tells what is new."""
        group = self._group()
        if group > self._told_group:
            self._told_group = group
            _send(self._channel, Regrouped(group))
        scheduler = self._engine.scheduler
        step = StepDone(
            outputs=outputs,
            failed=failed,
            running=scheduler.num_running,
            waiting=scheduler.num_waiting,
            free_tokens=scheduler.free_tokens,
        )
        if step != self._told:
            self._told = structs.replace(step, outputs=[], failed=[])
            _send(self._channel, step)

    def _group(self) -> int:
        group = self._engine.group
        return 0 if group is None else group.epoch


def _take(rank: StartedRank, item: Item, inbox: Inbox) -> None:
    match item:
        case Arrival():
            rank.engine.submit(item.request, item.matcher)
        case Abort():
            rank.engine.abort(item.request_id)
    if rank.engine.group is not None:
        _tell_group(rank, rank.engine.group, item, inbox)


def _tell_group(rank: StartedRank, group: Membership, item: Item, inbox: Inbox) -> None:
    if isinstance(item, Arrival | Awaited | Ring):
        group.ring(item.bell)
    match item:
        case Awaited():
            group.expect(1)
        case RequestFailed() | NoLongerAwaited() | Arrival(matcher=GrammarMatcher()):
            group.expect(-1)
        case Regroup():
            assert rank.regrouper is not None
            group.prepare(item.member.epoch)
            rank.regrouper.begin(item, inbox.put_group)
        case NextGroup():
            group.offer(item)


def _read(channel: socket.socket, inbox: Inbox) -> None:
    while (message := _receive(channel)) is not None:
        inbox.put(message)
    inbox.close()


def _receive(channel: socket.socket) -> ToRank | None:
    """The next message, or None at the end of the stream."""
    prefix = _receive_exactly(channel, LENGTH_BYTES)
    body = None if prefix is None else _receive_exactly(channel, body_length(prefix))
    return None if body is None else decode_to_rank(body)


def _receive_exactly(channel: socket.socket, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        try:
            part = channel.recv(count - len(data))
        except ConnectionResetError:
            return None
        if not part:
            return None
        data += part
    return bytes(data)


def _send(channel: socket.socket, message: FromRank) -> None:
    channel.sendall(encode(message))
