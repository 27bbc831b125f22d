"""The front's end of one running rank process.

Starts the process, hands it requests and hands each request's tokens to its sink. When the process ends, every request
it had ends with Unavailable. Knows asyncio; knows no gRPC and no tensor.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from openmodel_runtime.errors import RequestError, Unavailable
from openmodel_runtime.rank.messages import (
    LENGTH_BYTES,
    Abort,
    AskLoad,
    Fit,
    FromRank,
    LoadCounts,
    Loaded,
    NotMet,
    Ping,
    Pong,
    Regroup,
    Regrouped,
    Ring,
    Start,
    StartFailed,
    StepDone,
    Submit,
    ToRank,
    WeightsRead,
    body_length,
    decode_from_rank,
    encode,
)
from openmodel_runtime.request import GenerateRequest, SamplingParams, TokenOutput

_RANK_ENDED = "the rank that served this request ended; send the request again"
# A rank closes its socket when it ends; one that stays after that is killed.
_EXIT_SECONDS = 10.0
_PING_SECONDS = 1.0
_UNANSWERED_PINGS = 5
# One that starts can not answer before its libraries are there, nor in the middle of a large matrix.
_UNANSWERED_PINGS_LOADING = 120
# A step of prompts through a large model on few processors takes many seconds.
_LONGEST_STEP_SECONDS = 300.0
_log = logging.getLogger(__name__)


class TokenSink(Protocol):
    """Whoever takes the tokens of one request. Called while the rank's messages are read: it must not wait."""

    def admitted(self, at_ns: int, swapped: float) -> None:
        """The request was admitted; `swapped` is how long the rank has exchanged rows with others so far."""

    def finished(self, swapped: float) -> None:
        """Its last token comes; `swapped` as above."""

    def token(self, output: TokenOutput) -> None:
        """The next token; none comes after one with a finish reason."""

    def lost(self, error: RequestError) -> None:
        """The rank ended before the request did, or gave it up."""


class RankClient:
    """One rank process, from its start to its end."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._swapped = 0.0
        self._requests: dict[int, TokenSink] = {}
        self._ended = False
        self._unanswered = 0
        self._most_unanswered = _UNANSWERED_PINGS_LOADING
        # Whether answers are read: not while others of the pod still load.
        self._listens = False
        self._watching: asyncio.Task[None] | None = None
        self._step_seconds = 0.0
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def start(self, message: Start) -> WeightsRead | StartFailed | None:
        """Starts the process and waits until it has read its weights; None when it died before it said anything."""
        ours, theirs = socket.socketpair()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "openmodel_runtime.rank",
                str(theirs.fileno()),
                pass_fds=[theirs.fileno()],
            )
        finally:
            theirs.close()
        self._reader, self._writer = await asyncio.open_connection(sock=ours)
        self._watching = asyncio.ensure_future(self._watch())
        self._send(message)
        answer = await self._answer()
        return answer if isinstance(answer, WeightsRead | StartFailed) else None

    async def fit(self, message: Fit) -> Loaded | StartFailed | None:
        """Says how to divide what is left of the memory, and waits until the model can run; None when it died."""
        self._send(message)
        answer = await self._answer()
        return answer if isinstance(answer, Loaded | StartFailed) else None

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None
        return self._process.pid

    async def serve(
        self,
        on_step: Callable[[StepDone], None],
        on_regrouped: Callable[[int], None],
        on_load: Callable[[LoadCounts], None],
        on_not_met: Callable[[int], None],
    ) -> None:
        """Passes tokens on until the rank is gone. One that hangs is ended."""
        self._most_unanswered = _UNANSWERED_PINGS
        self._unanswered, self._listens = 0, True
        try:
            while (message := await self._receive()) is not None:
                match message:
                    case Pong():
                        self._lives(message)
                    case Regrouped():
                        on_regrouped(message.epoch)
                    case NotMet():
                        on_not_met(message.epoch)
                    case LoadCounts():
                        on_load(message)
                    case StepDone():
                        self._hand_out(message)
                        on_step(message)
        finally:
            # A request that comes from here on has nobody left to answer it.
            self._ended = True
            self.give_up(Unavailable(_RANK_ENDED))

    async def _answer(self) -> FromRank | None:
        """The next message that is more than a sign of life."""
        self._unanswered, self._listens = 0, True
        try:
            while isinstance(message := await self._receive(), Pong):
                self._lives(message)
        finally:
            self._listens = False
        return message

    def _lives(self, pong: Pong) -> None:
        self._unanswered = 0
        self._step_seconds = pong.step_seconds

    def _hand_out(self, step: StepDone) -> None:
        for request_id in step.admitted:
            if sink := self._requests.get(request_id):
                sink.admitted(step.began_ns, self._swapped)
        self._swapped += step.swapping_seconds
        for output in step.outputs:
            if sink := self._requests.get(output.request_id):
                if output.finish_reason:
                    sink.finished(self._swapped)
                    del self._requests[output.request_id]
                sink.token(output)
        for failure in step.failed:
            if sink := self._requests.pop(failure.request_id, None):
                sink.lost(failure.to_error())

    async def exit_code(self) -> int:
        """Exit code of a rank that is gone."""
        assert self._process is not None
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _EXIT_SECONDS)
        await self.stop()
        return await self._process.wait()

    async def stop(self) -> None:
        """Ends the process, if it has not ended, and waits for its end."""
        if self._watching is not None:
            self._watching.cancel()
        if self._writer is not None:
            self._writer.close()
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    def give_up(self, error: RequestError) -> None:
        """Ends all requests."""
        requests, self._requests = self._requests, {}
        for request_id, sink in requests.items():
            if not self._ended:
                self._send(Abort(request_id))
            sink.lost(error)

    async def _watch(self) -> None:
        """Asks the rank for a sign of life; ends it when there is none, or when a step takes for ever."""
        assert self._process is not None
        while True:
            self._send(Ping())
            # Counted, not timed: when this process stood still, the answers have not been read yet.
            self._unanswered += self._listens
            await asyncio.sleep(_PING_SECONDS)
            hangs = self._unanswered >= self._most_unanswered
            if hangs or self._step_seconds > _LONGEST_STEP_SECONDS:
                what = "does not answer" if hangs else f"has been in one step for {self._step_seconds:.0f} s"
                _log.error("rank %d %s: it is ended", self.pid, what)
                with suppress(ProcessLookupError):
                    self._process.kill()
                return

    @property
    def under_way(self) -> int:
        """Requests that have not ended."""
        return len(self._requests)

    def regroup(self, message: Regroup) -> None:
        """Tells the rank which group it is to step with next."""
        self._send(message)

    def ask_load(self) -> None:
        """Asks the rank how many tokens went to each expert."""
        self._send(AskLoad())

    def ring(self, bell: int) -> None:
        """Tells the rank that another one of its group has work."""
        self._send(Ring(bell))

    def submit(self, prompt: tuple[int, ...], sampling: SamplingParams, sink: TokenSink, bell: int = 0) -> int:
        """Asks for a completion, whose tokens go to `sink`; returns the id to abort it by. Raises Unavailable."""
        if self._ended:
            raise Unavailable(_RANK_ENDED)
        request_id = next(self._ids)
        self._requests[request_id] = sink
        self._send(Submit(GenerateRequest(request_id=request_id, prompt=prompt, sampling=sampling), bell))
        return request_id

    def abort(self, request_id: int) -> None:
        """Ends a request, if it has not ended: its sink hears nothing more, and the rank frees what it holds."""
        if self._requests.pop(request_id, None) is not None:
            self._send(Abort(request_id))

    def _send(self, message: ToRank) -> None:
        assert self._writer is not None
        if not self._writer.is_closing():
            self._writer.write(encode(message))

    async def _receive(self) -> FromRank | None:
        assert self._reader is not None
        try:
            prefix = await self._reader.readexactly(LENGTH_BYTES)
            return decode_from_rank(await self._reader.readexactly(body_length(prefix)))
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return None
