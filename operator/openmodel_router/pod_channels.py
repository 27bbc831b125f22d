"""Channels to pods, one each, kept while the pod takes calls or has some of ours."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import grpc

_OPTIONS = (
    # What a pod answers, and what it was sent, is bounded by the pod and by the server that read it.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A pod that is gone without a word is missed after this.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Whoever waits for a pod has waited long enough.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Also how long a connection may take: one to a node that is gone never answers.
    ("grpc.min_reconnect_backoff_ms", 3_000),
    ("grpc.use_local_subchannel_pool", 1),
)
_IDLE_SECONDS = 30.0
_ANY = random.SystemRandom()


class PodChannels:
    """Channels by address."""

    def __init__(self) -> None:
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._calls: Counter[str] = Counter()
        self._closing: dict[str, asyncio.TimerHandle] = {}
        self._closed: set[asyncio.Task[None]] = set()

    def least_loaded(self, pods: Sequence[str]) -> str:
        """A pod that has the fewest calls of ours."""
        # Of several any: one that fails at once would get all.
        return min(pods, key=lambda pod: (self._calls[pod], _ANY.random()))

    @contextmanager
    def channel(self, pod: str) -> Iterator[grpc.aio.Channel]:
        """A pod's channel, for one call."""
        if (closing := self._closing.pop(pod, None)) is not None:
            closing.cancel()
        if pod not in self._channels:
            self._channels[pod] = grpc.aio.insecure_channel(pod, options=_OPTIONS)
        self._calls[pod] += 1
        try:
            yield self._channels[pod]
        finally:
            self._calls[pod] -= 1
            if not self._calls[pod]:
                del self._calls[pod]
                self._closing[pod] = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._close, pod)

    async def close(self) -> None:
        """Ends all."""
        for handle in self._closing.values():
            handle.cancel()
        for pod in list(self._channels):
            self._close(pod)
        await asyncio.gather(*self._closed)

    def _close(self, pod: str) -> None:
        self._closing.pop(pod, None)
        task = asyncio.ensure_future(self._channels.pop(pod).close())
        self._closed.add(task)
        task.add_done_callback(self._closed.discard)
