"""The pods of one group as processes of this machine, each at an address of its own.

Knows how to start, grow and end them. Does not know what any test wants to see.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from contract.network import Network
from contract.runtime_server import RuntimeServer, free_ports, process_state, until
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc
from openmodel_protos import load_pb2, load_pb2_grpc

_networks = itertools.count(1)
_LOOKS = 20


class Pods:
    """The pods of one group, by number."""

    def __init__(
        self,
        model: Path,
        scratch: Path,
        size: int,
        flags: Sequence[str] = (),
        shared: str = "expert",
        network: Network | None = None,
    ) -> None:
        """`shared` is what the ranks share; on a `network`, each pod is a machine."""
        self._model = model
        self._scratch = scratch
        self._size = size
        self._flags = flags
        self._shared = shared
        (self._port,) = free_ports(1)
        # All of 127.0.0.0/8 is this machine.
        self._addresses = f"127.{os.getpid() % 250 + 1}.{next(_networks)}.{{}}".format
        self._network = network
        self._lives = itertools.count()
        self._open = ExitStack()
        self.pods: dict[int, RuntimeServer] = {}

    @contextmanager
    def running(self, *pods: int) -> Iterator[Pods]:
        """These pods, ready; nothing is left of them after, and what they logged is told."""
        try:
            self.start(*pods)
            self.wait_until_ready()
            yield self
        finally:
            print(self.logs())
            self.close()

    def start(self, *pods: int, size: int | None = None) -> None:
        """Starts pods; those that are there go on."""
        for pod in pods:
            scratch = self._scratch / f"pod-{pod}-{next(self._lives)}"
            scratch.mkdir()
            address, within, host = self._addresses(pod), list[str](), "127.0.0.1"
            if self._network is not None:
                address, within = self._network.address(pod), list(self._network.within(pod))
                host = address
            peers = address.removesuffix(str(pod)) + "{pod}"
            flags = [
                *(f"--{self._shared}-parallel-size={size or self._size}", "--ranks-per-pod=1", f"--pod={pod}"),
                *(f"--peers={peers}", f"--address={address}", f"--peer-port={self._port}"),
                *self._flags,
            ]
            self.pods[pod] = RuntimeServer(self._model, scratch, flags, host=host, within=within)

    def wait_until_ready(self) -> None:
        for server in self.pods.values():
            server.wait_until_ready()

    def wait_until_resting(self) -> None:
        """Returns once no rank has anything to do: none of them has woken for a while."""
        for server in self.pods.values():
            server.wait_until_idle()
            seen: list[int] = []

            def asleep(rank: int = server.rank(), seen: list[int] = seen) -> bool:
                seen.append(waits_of(rank))
                return len(seen) >= _LOOKS and len(set(seen[-_LOOKS:])) == 1

            until(asleep, "the rank rests")

    def stub(self, pod: int) -> pb_grpc.GRPCInferenceServiceStub:
        """The service of a pod; open until all are closed."""
        return self._open.enter_context(self.pods[pod].stub())

    def report(self, pod: int) -> load_pb2.LoadReport:
        """What a pod says of the group."""
        with self.pods[pod].channel() as channel:
            return load_pb2_grpc.LoadStub(channel).Report(load_pb2.LoadRequest())

    def kill(self, pod: int) -> None:
        """The pod, all of its processes."""
        server = self.pods.pop(pod)
        pids = [server.process.pid, *server.children()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        server.wait()

    @contextmanager
    def standing_still(self, *pods: int) -> Iterator[None]:
        """All processes of some pods stand still inside."""
        pids = [pid for pod in pods for pid in (self.pods[pod].process.pid, *self.pods[pod].children())]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        until(lambda: all(process_state(pid) == "T" for pid in pids), "they stand still")
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def epoch(self, pod: int) -> tuple[int, int]:
        """The newest epoch that a pod knows of: its number, and how many ranks it has."""
        told = re.findall(r"epoch (\d+): (\d+) ranks share", self.pods[pod].log.read_text())
        return (int(told[-1][0]), int(told[-1][1])) if told else (0, 0)

    def end(self, pod: int) -> int:
        """Asks the pod to end; returns its exit code."""
        return self.pods.pop(pod).end()

    def logs(self) -> str:
        """Of all pods, those that are gone too."""
        return "\n".join(f"{log.parent.name}\n{log.read_text()}" for log in sorted(self._scratch.glob("pod-*/log")))

    def close(self) -> None:
        """Leaves nothing behind."""
        self._open.close()
        for server in self.pods.values():
            server.close()


def waits_of(pid: int) -> int:
    """How often the main thread of a process has gone to sleep."""
    (line,) = [
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("voluntary_ctxt")
    ]
    return int(line.split()[1])
