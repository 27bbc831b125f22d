"""How the pods of a group hear each other: a stream between each two, and signs of life on it.

Knows who is there and what they told last; decides nothing. The pod of the higher number dials. A stream that ends says
little about the other pod: whether that has ended, or can only not be reached, its machine says when it is dialled.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import grpc

from openmodel_protos import peer_pb2 as pb
from openmodel_protos import peer_pb2_grpc as pb_grpc
from openmodel_runtime.config import GroupConfig
from openmodel_runtime.group.epochs import MOST_PODS
from openmodel_runtime.group.state import PodState, Seen, View
from openmodel_runtime.group.wire import from_message, to_report

_log = logging.getLogger(__name__)
_SIGN_SECONDS = 0.25
_SILENT_SECONDS = 3.0
_AGAIN_SECONDS = 0.25
_DIAL_SECONDS = 2.0
_NO_SUCH_HOST = (socket.EAI_NONAME, socket.EAI_NODATA)
_Context = grpc.aio.ServicerContext[pb.PodReport, pb.PodReport]
# Two channels to one address would otherwise share a connection, and its pauses between tries.
_CHANNEL = [("grpc.use_local_subchannel_pool", 1)]


class Listener(Protocol):
    """Whoever is told what was heard; called in the event loop."""

    def changed(self) -> None:
        """A pod told something new, or its life has changed."""

    def rung(self, bell: int) -> None:
        """A pod has made or heard a call to wake up."""


class Peers(Protocol):
    """The other pods."""

    async def start(self, state: PodState, listener: Listener) -> None:
        """Begins to tell `state` and to listen; returns once all were looked for."""

    def tell(self, state: PodState) -> None:
        """Tells the others what this pod is and has from now on."""

    def ring(self, bell: int) -> None:
        """Calls the others to wake up."""

    def view(self) -> View:
        """What the others told last, with what is known of their lives; without this pod."""

    async def stop(self) -> None:
        """Hears and tells nothing more."""


class NoPeers:
    """Of a group that has one pod."""

    async def start(self, state: PodState, listener: Listener) -> None:
        """There is nobody to look for."""

    def tell(self, state: PodState) -> None:
        """There is nobody to tell."""

    def ring(self, bell: int) -> None:
        """There is nobody to call."""

    def view(self) -> View:
        """Nobody."""
        return {}

    async def stop(self) -> None:
        """There is nothing to stop."""


@dataclass(eq=False)
class _Stream:
    """What one of the others has not been told yet."""

    news: asyncio.Event
    stale: bool = True


class PeerStreams(pb_grpc.PeerServicer):
    """The streams of this pod."""

    def __init__(self, config: GroupConfig, version: str) -> None:
        self._config = config
        self._version = version
        self._others: dict[int, PodState] = {}
        self._heard: dict[int, float] = {}
        self._ended: set[int] = set()
        self._look = asyncio.Event()
        self._report = pb.PodReport()
        self._bell = 0
        self._streams: set[_Stream] = set()
        self._listener: Listener | None = None
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        pb_grpc.add_PeerServicer_to_server(self, self._server)
        self._server.add_insecure_port(_target(config.address, config.peer_port))
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, state: PodState, listener: Listener) -> None:
        """See `Peers`: each pod of a lower number is dialled once, at least."""
        self._listener = listener
        self.tell(state)
        await self._server.start()
        looked = [asyncio.Event() for _ in range(self._config.pod)]
        self._tasks = [asyncio.ensure_future(self._dial(pod, event)) for pod, event in enumerate(looked)]
        self._tasks.append(asyncio.ensure_future(self._watch()))
        await asyncio.gather(*(event.wait() for event in looked))
        # Those of a higher number dial this one; two tries of theirs.
        await asyncio.sleep(2 * _AGAIN_SECONDS)

    def tell(self, state: PodState) -> None:
        """See `Peers`."""
        report = to_report(state, self._version)
        if report != self._report:
            self._report = report
            for stream in self._streams:
                stream.stale = True
                stream.news.set()

    def ring(self, bell: int) -> None:
        """See `Peers`."""
        self._bell = max(self._bell, bell)
        for stream in self._streams:
            stream.news.set()

    def view(self) -> View:
        """See `Peers`."""
        return self._others

    async def stop(self) -> None:
        """See `Peers`."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.stop(None)

    async def Meet(self, reports: AsyncIterator[pb.PodReport], context: _Context) -> AsyncIterator[pb.PodReport]:
        """A pod of a higher number has dialled."""
        reading = asyncio.ensure_future(self._hear(reports))
        try:
            async for report in self._reports(reading):
                yield report
        finally:
            reading.cancel()

    async def _reports(self, reading: asyncio.Task[None]) -> AsyncIterator[pb.PodReport]:
        """The state whenever it changes, and signs of life in between, as long as the other is heard."""
        stream = _Stream(asyncio.Event())
        self._streams.add(stream)
        try:
            while not reading.done():
                stream.news.clear()
                report = pb.PodReport(bell=self._bell)
                if stream.stale:
                    report.MergeFrom(self._report)
                    stream.stale = False
                yield report
                with suppress(TimeoutError):
                    await asyncio.wait_for(stream.news.wait(), _SIGN_SECONDS)
        finally:
            self._streams.discard(stream)

    async def _hear(self, reports: AsyncIterator[pb.PodReport]) -> None:
        """Takes in what a pod tells, until its stream ends."""
        assert self._listener is not None
        pod: int | None = None
        with suppress(grpc.aio.AioRpcError):
            async for report in reports:
                if report.HasField("state"):
                    if not self._is_one_of_us(report.state):
                        return
                    pod = report.state.pod
                    self._others[pod] = from_message(report.state)
                if pod is None:
                    return
                self._heard[pod] = asyncio.get_running_loop().time()
                self._ended.discard(pod)
                self._mark(pod, Seen.LIVE)
                if report.HasField("state"):
                    self._listener.changed()
                self._listener.rung(report.bell)
        if pod is not None:
            self._ended.add(pod)
            self._look.set()

    def _is_one_of_us(self, state: pb.PodState) -> bool:
        ours = state.version == self._version and state.pod != self._config.pod and 0 <= state.pod < MOST_PODS
        if not ours:
            _log.warning("pod %d of revision %r is not of this group", state.pod, state.version)
        return ours

    def _mark(self, pod: int, seen: Seen) -> None:
        assert self._listener is not None
        state = self._others[pod]
        if state.seen is not seen:
            _log.warning("pod %d is %s", pod, seen.value)
            self._others[pod] = replace(state, seen=seen)
            self._listener.changed()

    async def _dial(self, pod: int, looked: asyncio.Event) -> None:
        """Keeps a stream to a pod of a lower number."""
        while True:
            if await self._ask_machine(pod) is Seen.LIVE:
                target = _target(self._host(pod), self._config.peer_port)
                async with grpc.aio.insecure_channel(target, _CHANNEL) as channel:
                    call: Any = pb_grpc.PeerStub(channel).Meet()
                    hearing = asyncio.ensure_future(self._hear(call))
                    telling = asyncio.ensure_future(self._tell_all(call, hearing))
                    hearing.add_done_callback(lambda _: looked.set())
                    asyncio.get_running_loop().call_later(_AGAIN_SECONDS, looked.set)
                    try:
                        await asyncio.wait({hearing, telling}, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        call.cancel()
                        for task in (hearing, telling):
                            task.cancel()
                        await asyncio.gather(hearing, telling, return_exceptions=True)
            looked.set()
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _tell_all(self, call: Any, hearing: asyncio.Task[None]) -> None:
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            async for report in self._reports(hearing):
                await call.write(report)

    async def _watch(self) -> None:
        """Notices silence, and asks the machine of a pod whose stream has ended."""
        now = asyncio.get_running_loop().time
        while True:
            slept_from = now()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), _SIGN_SECONDS)
            self._look.clear()
            paused = now() - slept_from - _SIGN_SECONDS
            if paused > _SIGN_SECONDS:
                # This process stood still: what the others said meanwhile has not been read yet.
                self._heard = {pod: heard + paused for pod, heard in self._heard.items()}
            silent = {pod for pod, heard in self._heard.items() if now() - heard > _SILENT_SECONDS}
            await asyncio.gather(*(self._judge(pod, pod in silent) for pod in silent | self._ended))

    async def _judge(self, pod: int, silent: bool) -> None:
        if self._others[pod].seen is Seen.CLOSED:
            return
        if await self._ask_machine(pod) is Seen.CLOSED:
            self._mark(pod, Seen.CLOSED)
        elif silent and asyncio.get_running_loop().time() - self._heard[pod] > _SILENT_SECONDS:
            self._mark(pod, Seen.SILENT)

    async def _ask_machine(self, pod: int) -> Seen:
        """LIVE when something listens there, CLOSED when the machine says that nothing does, or there is none."""
        try:
            async with asyncio.timeout(_DIAL_SECONDS):
                _, writer = await asyncio.open_connection(self._host(pod), self._config.peer_port)
        except ConnectionRefusedError:
            return Seen.CLOSED
        except socket.gaierror as error:
            return Seen.CLOSED if error.errno in _NO_SUCH_HOST else Seen.SILENT
        except (OSError, TimeoutError):
            return Seen.SILENT
        writer.close()
        return Seen.LIVE

    def _host(self, pod: int) -> str:
        return self._config.peers.format(pod=pod)


def _target(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
