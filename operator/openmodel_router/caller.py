"""What a caller sends, read once and kept for as long as it may have to be sent again."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

Context = grpc.aio.ServicerContext[bytes, bytes]
_MOST_KEPT_BYTES = 1 << 20


class Caller:
    """The messages of one call. They can be read from the beginning until one was answered, or they are too many."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kept: list[bytes] = []
        self._bytes = 0
        self._first = 0
        self._ended = False
        self._keeps = True
        self._reading: asyncio.Task[Any] | None = None

    @property
    def repeats(self) -> bool:
        """Whether all can be sent again."""
        return self._first == 0

    def answered(self) -> None:
        """Nothing will be sent again."""
        self._keeps = False

    async def message(self, index: int) -> bytes | None:
        """A message by its number; None after the last."""
        while index >= self._first + len(self._kept):
            if self._ended:
                return None
            await self._read()
        message = self._kept[index - self._first]
        if not self._keeps:
            del self._kept[: index - self._first + 1]
            self._first = index + 1
        return message

    async def _read(self) -> None:
        # An attempt that ends must not take a message with it: whoever comes next waits for the same.
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._context.read())
        message = await asyncio.shield(self._reading)
        self._reading = None
        if message is grpc.aio.EOF:
            self._ended = True
            return
        self._kept.append(message)
        self._bytes += len(message)
        if self._bytes > _MOST_KEPT_BYTES:
            self._keeps = False

    def close(self) -> None:
        """The call is over."""
        if self._reading is not None:
            self._reading.cancel()
