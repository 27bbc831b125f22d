"""Keys to look at, each at most once at a time.

A key that is added while it waits is not added twice; one that is added while it is worked on is worked on again after.
A failed key comes back after a pause that doubles with each failure in a row.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
_log = logging.getLogger(__name__)
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 60.0
_COUNTED_FAILURES = 10


class WorkQueue(Generic[Key]):
    """A set of workers over a set of keys."""

    def __init__(self, work: Callable[[Key], Awaitable[None]], workers: int) -> None:
        self._work = work
        self._workers = workers
        self._queue: asyncio.PriorityQueue[tuple[int, int, Key]] = asyncio.PriorityQueue()
        self._numbers = itertools.count()
        self._queued: set[Key] = set()
        self._working: set[Key] = set()
        self._again: dict[Key, bool] = {}
        self._failures: dict[Key, int] = {}
        self._later: dict[Key, asyncio.TimerHandle] = {}

    def add(self, key: Key, *, first: bool = False) -> None:
        """Asks for a look at the key, before all others with `first`."""
        if key in self._working:
            self._again[key] = first or self._again.get(key, False)
        elif key not in self._queued or first:
            self._queued.add(key)
            self._queue.put_nowait((not first, next(self._numbers), key))

    def add_later(self, key: Key, seconds: float) -> None:
        """Asks for a look at the key after a while."""
        loop = asyncio.get_running_loop()
        waiting = self._later.get(key)
        if waiting is not None:
            if waiting.when() <= loop.time() + seconds:
                return
            waiting.cancel()
        self._later[key] = loop.call_later(seconds, self._add_due, key)

    def __len__(self) -> int:
        """How many keys wait."""
        return len(self._queued)

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._worker())

    def _put_off(self, key: Key) -> None:
        failures = self._failures.get(key, 0)
        self._failures[key] = min(failures + 1, _COUNTED_FAILURES)
        pause = min(_FIRST_PAUSE_SECONDS * 2**failures, _LONGEST_PAUSE_SECONDS)
        _log.exception("looking at %s failed; again in %.1f s", key, pause)
        self.add_later(key, pause)

    def _add_due(self, key: Key) -> None:
        del self._later[key]
        self.add(key)

    async def _worker(self) -> None:
        while True:
            _, _, key = await self._queue.get()
            if key not in self._queued:
                # It was put first meanwhile, and looked at.
                continue
            self._queued.discard(key)
            self._working.add(key)
            try:
                await self._work(key)
                self._failures.pop(key, None)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                # Not this worker: something that it waited for.
                self._put_off(key)
            except Exception:
                self._put_off(key)
            finally:
                self._working.discard(key)
                if key in self._again:
                    self.add(key, first=self._again.pop(key))
