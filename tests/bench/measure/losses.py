"""Streams through something that happens to a group: every token with its time, and what became of each stream.

Knows the client's messages; does not know what happens.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import grpc

from bench.measure.client import infer_request, tokens_and_text

_METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"


@dataclass
class Stream:
    """One completion."""

    times: list[float] = field(default_factory=list)
    """When each response with tokens came, in seconds."""
    tokens: int = 0
    text: str = ""
    error: str = ""

    def longest_gap(self, since: float) -> float:
        """The longest wait between two responses, the second of which came after `since`; seconds."""
        pairs = zip(self.times, self.times[1:], strict=False)
        return max((after - before for before, after in pairs if after > since), default=0.0)


@dataclass(frozen=True)
class Through:
    """All streams, and when it happened."""

    streams: list[Stream]
    began: float
    happened: float
    settled: float
    """When it was over."""

    def tokens_over_time(self, width: float) -> list[tuple[float, float]]:
        """Tokens a second of all streams, in pieces of time of so many seconds."""
        times = [when - self.began for stream in self.streams for when in stream.times]
        counts = [0] * (int(max(times) / width) + 1)
        for when in times:
            counts[int(when / width)] += 1
        return [(index * width, count / width) for index, count in enumerate(counts)]


def run_through(
    address: str, prompts: Sequence[str], max_tokens: int, after: int, happen: Callable[[], None]
) -> Through:
    """All prompts at once; `happen` is called once every stream has had so many responses."""
    return asyncio.run(_run(address, prompts, max_tokens, after, happen))


async def _run(
    address: str, prompts: Sequence[str], max_tokens: int, after: int, happen: Callable[[], None]
) -> Through:
    streams = [Stream() for _ in prompts]
    async with grpc.aio.insecure_channel(address) as channel:
        await channel.channel_ready()
        began = time.perf_counter()
        reading = [
            asyncio.ensure_future(_read(channel, infer_request(prompt, max_tokens).SerializeToString(), stream))
            for prompt, stream in zip(prompts, streams, strict=True)
        ]
        while min(len(stream.times) for stream in streams) < after:
            await asyncio.sleep(0.005)
        happened = time.perf_counter()
        await asyncio.to_thread(happen)
        settled = time.perf_counter()
        await asyncio.gather(*reading)
    return Through(streams, began, happened, settled)


async def _read(channel: grpc.aio.Channel, request: bytes, stream: Stream) -> None:
    # Without serializers: bytes in, bytes out.
    call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(_METHOD)()
    await call.write(request)
    await call.done_writing()
    try:
        async for raw in call:
            tokens, text = tokens_and_text(raw)
            if tokens:
                stream.times.append(time.perf_counter())
            stream.tokens += tokens
            stream.text += text
    except (RuntimeError, grpc.aio.AioRpcError) as error:
        stream.error = str(error)
