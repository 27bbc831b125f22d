"""What has come for the loop of a rank: requests that can start, and what else the front says.

A request with a grammar comes out once its grammar is compiled. A thread of its own does that: neither those who
generate wait for it, nor those who came after without one. Knows no engine.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from openmodel_runtime.engine.grammar import GrammarCompiler, GrammarMatcher
from openmodel_runtime.errors import InternalError, RequestError
from openmodel_runtime.parallel.membership import NextGroup
from openmodel_runtime.rank.messages import Abort, Regroup, Ring, Submit, ToRank
from openmodel_runtime.request import GenerateRequest, RequestFailed

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that can start."""

    request: GenerateRequest
    matcher: GrammarMatcher | None
    bell: int


@dataclass(frozen=True, slots=True)
class Awaited:
    """A request is on its way: its grammar is being compiled. The group must not go to rest meanwhile."""

    bell: int


class NoLongerAwaited:
    """One of those will not come."""


class Closed:
    """The front is gone."""


Item = Arrival | Abort | Ring | Regroup | NextGroup | RequestFailed | Awaited | NoLongerAwaited | Closed


class Inbox:
    """A queue that one thread fills and one empties."""

    def __init__(self, grammars: GrammarCompiler, abandon: Callable[[], None] = lambda: None) -> None:
        """`abandon` is called when the rank should wait for no other any longer, in the thread that fills."""
        self._grammars = grammars
        self._abandon = abandon
        self._compiler = ThreadPoolExecutor(1, "grammars")
        self._items: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._compiling: dict[int, Future[None]] = {}
        self._lock = threading.Lock()

    def put(self, message: ToRank) -> None:
        """Takes a message of the front."""
        if isinstance(message, Abort):
            with self._lock:
                future = self._compiling.pop(message.request_id, None)
            if future is not None:
                future.cancel()
            self._items.put(message if future is None else NoLongerAwaited())
        elif isinstance(message, Submit):
            if message.request.sampling.grammar:
                self._items.put(Awaited(message.bell))
                with self._lock:
                    future = self._compiler.submit(self._compile, message.request, message.bell)
                    self._compiling[message.request.request_id] = future
            else:
                self._items.put(Arrival(message.request, None, message.bell))
        elif isinstance(message, Ring | Regroup):
            self._items.put(message)
            if isinstance(message, Regroup) and message.broken:
                self._abandon()

    def put_group(self, group: NextGroup) -> None:
        """Takes a group that was prepared."""
        self._items.put(group)

    def close(self) -> None:
        """The front is gone: no message comes any more."""
        self._items.put(Closed())
        self._abandon()

    def empty(self) -> bool:
        """True when `get` would wait."""
        return self._items.empty()

    def get(self) -> Item:
        """The next item; waits for it."""
        return self._items.get()

    def _compile(self, request: GenerateRequest, bell: int) -> None:
        item: Arrival | RequestFailed
        try:
            item = Arrival(request, self._grammars.compile(request.sampling.grammar), bell)
        except RequestError as error:
            item = RequestFailed.of(request.request_id, error)
        except Exception:
            _log.exception("a grammar could not be compiled")
            item = RequestFailed.of(request.request_id, InternalError("the grammar could not be compiled"))
        with self._lock:
            # One that was aborted meanwhile is nobody's.
            if self._compiling.pop(request.request_id, None) is not None:
                self._items.put(item)
