"""What a caller sends, read once and kept for as long as it may have to be sent again."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

Context = grpc.aio.ServicerContext[bytes, bytes]


class Memory:
    """What all calls together keep of what was sent, and how much that may be."""

    def __init__(self, most: int = 64 << 20, most_per_call: int = 1 << 20) -> None:
        """In bytes."""
        self._most = most
        self._most_per_call = most_per_call
        self._kept = 0

    def keep(self, call: int, size: int) -> bool:
        """Keeps so much more of a call that has `call` bytes already; False when that is too much."""
        if call + size > self._most_per_call or self._kept + size > self._most:
            return False
        self._kept += size
        return True

    def release(self, size: int) -> None:
        """So much is not kept any more."""
        self._kept -= size


class Caller:
    """The messages of one call. They can be read from the beginning until one was answered, or they are too many."""

    def __init__(self, context: Context, memory: Memory) -> None:
        self._context = context
        self._memory = memory
        self._kept: list[bytes] = []
        self._bytes = 0
        self._first = 0
        self._handed = 0
        self._ended = False
        self._keeps = True
        self._reading: asyncio.Task[Any] | None = None

    @property
    def repeats(self) -> bool:
        """Whether all can be sent again."""
        return self._first == 0

    async def message(self, index: int) -> bytes | None:
        """A message by its number; None after the last."""
        while index >= self._first + len(self._kept):
            if self._ended:
                return None
            await self._read()
        message = self._kept[index - self._first]
        self._handed = max(self._handed, index + 1)
        if not self._keeps:
            self._drop_handed()
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
        if not self._keeps:
            return
        if self._memory.keep(self._bytes, len(message)):
            self._bytes += len(message)
        else:
            self.keep_no_more()

    def keep_no_more(self) -> None:
        """Nothing will be sent again."""
        self._keeps = False
        self._memory.release(self._bytes)
        self._bytes = 0
        self._drop_handed()

    def _drop_handed(self) -> None:
        del self._kept[: self._handed - self._first]
        self._first = self._handed

    def close(self) -> None:
        """The call is over."""
        self.keep_no_more()
        if self._reading is not None:
            self._reading.cancel()
