"""Ranks of several pods hand each other rows over the network: torch.distributed with gloo.

The ranks of an epoch meet in a store of their own, which the first of them opens. Neither `abort` nor `shutdown` of a
process group ends a collective that waits for a peer that does not answer; shutting its sockets down does, most of the
time: the sockets that came with the group are remembered. Whoever waits for the collective is woken in any case.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import TCPStore

from openmodel_runtime.config import GroupMember
from openmodel_runtime.parallel.mailbox import GroupBroken

# torch's own annotations lack what is used here.
_Gloo: Any = dist.ProcessGroupGloo
# Hangs are found by heartbeats, long before.
_TIMEOUT = timedelta(minutes=10)
# All have said that they are there; what is left is to connect.
_CONNECT = timedelta(seconds=3)
_LOOK_SECONDS = 0.002
# Held while sockets are made: those that appear meanwhile are of whoever holds it.
_SOCKETS = threading.Lock()
# Collectives that were left before they had ended, each with its group: dropping one would wait for it.
_UNFINISHED: list[tuple[Any, ...]] = []
_LEAVING = threading.Lock()


def _drop_finished() -> None:
    """Lets go of the groups whose collectives have ended meanwhile: with their sockets, most of them end at once."""
    with _LEAVING:
        _UNFINISHED[:] = [left for left in _UNFINISHED if not left[0].done()]


class NetworkMailbox:
    """One rank's end of a gloo group; see `Mailbox`."""

    def __init__(self, member: GroupMember) -> None:
        """Nothing is opened yet."""
        self.rank = member.rank
        self.ranks = member.size
        self._address = member.address
        host, _, port = member.store.rpartition(":")
        self._store_at = (host.strip("[]"), int(port))
        self._group: Any = None
        self._options = dist.AllToAllOptions()
        self._options.timeout = _TIMEOUT
        self._sockets: set[tuple[int, str]] = set()
        # Those that were there when this group began to connect; None while it does not.
        self._before: set[tuple[int, str]] | None = None
        self._stopped = threading.Event()
        # Set when an exchange has ended, or nobody is to wait for it any longer.
        self._over = threading.Event()

    def meet(self) -> None:
        """Waits until all ranks have come to the store, then connects each with each."""
        _drop_finished()
        store = self._open_store() if self.rank == 0 else self._dial()
        store.set(f"here/{self.rank}", "")
        everybody = [f"here/{rank}" for rank in range(self.ranks)]
        self._wait(lambda: bool(store.check(everybody)))
        options = _Gloo._Options()
        # One that dies just now, with its address, would be waited for; and others wait for these sockets.
        options._timeout = _CONNECT
        options._devices = [_Gloo.create_device(hostname=self._address)]
        store.set_timeout(_CONNECT)
        try:
            with _SOCKETS, self._new_sockets():
                if not self._stopped.is_set():
                    self._group = _Gloo(store, self.rank, self.ranks, options)
                    self._group._set_default_timeout(_TIMEOUT)
        except RuntimeError as error:
            raise GroupBroken(f"not all ranks came: {error}") from None
        if self._stopped.is_set():
            self.stop()
            raise GroupBroken("not all ranks came")

    def swap(self, out: Sequence[Tensor], into: Sequence[Tensor]) -> None:
        """One all-to-all of uneven sizes; what is not in the processor's memory is staged there."""
        # Of this exchange alone, or the end of an earlier one would end it; made before the look, for `stop` sets both.
        self._over = over = threading.Event()
        if self._group is None or self._stopped.is_set():
            raise GroupBroken("the group was left")
        sent = [_bytes(part) if rank != self.rank else _NOTHING for rank, part in enumerate(out)]
        sizes = [part.numel() * part.element_size() if rank != self.rank else 0 for rank, part in enumerate(into)]
        received = torch.empty(sum(sizes), dtype=torch.uint8)
        lengths = [part.numel() for part in sent]
        try:
            work = self._group.alltoall_base(received, torch.cat(sent), sizes, lengths, self._options)
            future = work.get_future()
            # Nothing of the group in it: whoever drops a group last ends its threads, and must not be one of them.
            future.add_done_callback(lambda _: over.set())
            over.wait()
            if self._stopped.is_set():
                if not future.done():
                    with _LEAVING:
                        _UNFINISHED.append((future, self._group, work, received))
                raise GroupBroken("the group was left")
            work.wait()
        except RuntimeError as error:
            raise GroupBroken(f"a rank has gone: {error}") from None
        for part, came in zip(into, torch.split(received, sizes), strict=True):
            if came.numel():
                part.copy_(came.view(part.dtype).view(part.shape))

    def stop(self) -> None:
        """Ends all waiting."""
        self._stopped.set()
        self._over.set()
        before = self._before
        for number, name in self._sockets if before is None else self._sockets | (_connections() - before):
            with suppress(OSError):
                # The number may be another's by now.
                if os.readlink(f"/proc/self/fd/{number}") == name:
                    with socket.socket(fileno=os.dup(number)) as duplicate:
                        duplicate.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def _new_sockets(self) -> Iterator[None]:
        """The sockets that are made inside are this group's, and `stop` ends what is waited for on them."""
        self._before = before = _connections()
        try:
            yield
        finally:
            self._sockets |= _connections() - before
            self._before = None

    def _open_store(self) -> TCPStore:
        host, port = self._store_at
        # At the pod's address alone; by itself a store listens at all.
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(self._store_at)
        with _SOCKETS, self._new_sockets():
            return TCPStore(
                host,
                port,
                None,
                True,
                timeout=_CONNECT,
                wait_for_workers=False,
                master_listen_fd=listener.detach(),
            )

    def _dial(self) -> TCPStore:
        """The store of the first rank, once that listens: a store's own way of waiting takes half a second."""
        self._wait(self._listens)
        host, port = self._store_at
        try:
            with _SOCKETS, self._new_sockets():
                return TCPStore(host, port, None, False, timeout=_CONNECT, wait_for_workers=False)
        except RuntimeError as error:
            raise GroupBroken(f"the first rank has gone: {error}") from None

    def _listens(self) -> bool:
        try:
            socket.create_connection(self._store_at, timeout=1.0).close()
        except OSError:
            return False
        return True

    def _wait(self, condition: Callable[[], bool]) -> None:
        while not self._stopped.is_set():
            try:
                if condition():
                    return
            except RuntimeError as error:
                raise GroupBroken(f"the first rank has gone: {error}") from None
            time.sleep(_LOOK_SECONDS)
        raise GroupBroken("not all ranks came")


_NOTHING = torch.empty(0, dtype=torch.uint8)


def _bytes(rows: Tensor) -> Tensor:
    """The numbers as bytes in the processor's memory."""
    return rows.cpu().contiguous().view(-1).view(torch.uint8)


def _connections() -> set[tuple[int, str]]:
    """Connected TCP sockets of this process; not those that listen: gloo ends the process without them."""
    found = set()
    for entry in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            name = os.readlink(f"/proc/self/fd/{entry}")
            if name.startswith("socket:"):
                with socket.socket(fileno=os.dup(int(entry))) as duplicate:
                    internet = duplicate.family in (socket.AF_INET, socket.AF_INET6)
                    if internet and not duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        found.add((int(entry), name))
    return found
