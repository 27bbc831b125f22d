"""A real runtime process on loopback, for tests that speak to it as its callers do.

Knows how to start and end one, its ports, its rank and its metrics. Does not know what any test wants to see.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from checkpoints import write_tiny_llama, write_tiny_mixtral
from contract.infer_requests import MODEL, VERSION
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc

ROOT = Path(__file__).resolve().parents[2]
CONTEXT = 1 << 18
# Far beyond what anything here takes; only a hang reaches it.
LIMIT_SECONDS = 60.0
_SOON_AGAIN = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 100)]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def until(condition: Callable[[], bool], what: str) -> None:
    """Returns once the condition holds; for what nobody announces (metrics, processes)."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.01)


class RuntimeServer:
    """One runtime: a front process and its rank."""

    def __init__(
        self,
        model: Path,
        scratch: Path,
        flags: Sequence[str] = (),
        path_first: Path | None = None,
        host: str = "127.0.0.1",
        within: Sequence[str] = (),
    ) -> None:
        """`within` is a command that runs the rest of its arguments, where `host` is an address of the machine."""
        self._host = host
        self.log = scratch / "log"
        self.termination_message = scratch / "termination-message"
        self.port, self.metrics_port, self.health_port = free_ports(3)
        command = [
            *(*within, sys.executable, "-m", "openmodel_runtime"),
            *(f"--model={model}", f"--name={MODEL}", f"--version={VERSION}", f"--host={host}"),
            *(f"--grpc-port={self.port}", f"--metrics-port={self.metrics_port}", f"--health-port={self.health_port}"),
            *("--dtype=float32", "--threads=1", f"--termination-message-path={self.termination_message}"),
            *flags,
        ]
        paths = os.pathsep.join(str(ROOT / folder) for folder in ("runtime", "protos"))
        if path_first is not None:
            paths = f"{path_first}{os.pathsep}{paths}"
        environment = {**os.environ, "PYTHONPATH": paths}
        if environment.pop("PYTHONDONTWRITEBYTECODE", None):
            # Compiling torch anew in every process would take most of the time of these tests.
            environment["PYTHONPYCACHEPREFIX"] = str(ROOT / ".pytest_cache/bytecode")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)

    @property
    def address(self) -> str:
        return f"{self._host}:{self.port}"

    @property
    def health_address(self) -> str:
        return f"{self._host}:{self.health_port}"

    @contextmanager
    def stub(self) -> Iterator[pb_grpc.GRPCInferenceServiceStub]:
        """The service, on a connection of its own."""
        with self.channel() as channel:
            yield pb_grpc.GRPCInferenceServiceStub(channel)

    def channel(self) -> grpc.Channel:
        """A connection of its own."""
        return grpc.insecure_channel(self.address, [("grpc.use_local_subchannel_pool", 1)])

    def wait_until_ready(self) -> RuntimeServer:
        with grpc.insecure_channel(self.health_address, _SOON_AGAIN) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            until(lambda: self.process.poll() is not None or _serves(stub), "the runtime is ready")
        assert self.process.poll() is None, self.log.read_text()
        return self

    def rank(self) -> int:
        """Process id of the one rank."""
        (pid,) = self.ranks()
        return pid

    def ranks(self) -> list[int]:
        """Process ids of the ranks; chat templates have a process beside them."""
        return [pid for pid in self.children() if b"openmodel_runtime.rank" in _command(pid)]

    def children(self) -> list[int]:
        front = self.process.pid
        return [int(pid) for pid in Path(f"/proc/{front}/task/{front}/children").read_text().split()]

    @contextmanager
    def frozen_rank(self) -> Iterator[int]:
        """The rank stands still inside; what it was given stays under way."""
        pid = self.rank()
        os.kill(pid, signal.SIGSTOP)
        until(lambda: process_state(pid) == "T", "the rank stands still")
        try:
            yield pid
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def metrics(self) -> str:
        """The Prometheus exposition."""
        with urllib.request.urlopen(f"http://{self._host}:{self.metrics_port}/metrics", timeout=10) as response:
            text: str = response.read().decode()
        return text

    def metric(self, name: str) -> float:
        """Sum of a metric's series; -1 when there is none yet."""
        lines = self.metrics().splitlines()
        values = [float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0] == name]
        return sum(values) if values else -1.0

    def wait_until_running(self, count: int) -> None:
        """Returns once the rank runs so many requests, and none waits."""
        name = "openmodel_runtime_requests_{}"
        until(lambda: self.metric(name.format("running")) == count, f"{count} requests run")
        until(lambda: self.metric(name.format("waiting")) == 0, "no request waits")

    def wait_until_idle(self) -> None:
        """Returns once the rank has nothing to run."""
        self.wait_until_running(0)

    def end(self) -> int:
        """Asks the runtime to end; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        return self.process.wait(LIMIT_SECONDS)

    def close(self) -> None:
        """Leaves nothing behind, whatever the test did."""
        for pid in self.children() if self.process.poll() is None else []:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()


def _serves(stub: health_pb2_grpc.HealthStub) -> bool:
    try:
        return bool(stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status == SERVING)
    except grpc.RpcError:
        return False


def _command(pid: int) -> bytes:
    """Nothing of a process that has gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def process_state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def free_ports(count: int) -> list[int]:
    # Below the ports that outgoing connections get, and held at the same time so that they differ.
    held: list[socket.socket] = []
    while len(held) < count:
        each = socket.socket()
        try:
            each.bind(("127.0.0.1", random.SystemRandom().randrange(20_000, 32_768)))
        except OSError:
            each.close()
        else:
            held.append(each)
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def long_llama(folder: Path) -> Path:
    """A tiny Llama for sequences of CONTEXT tokens."""
    return _lengthened(write_tiny_llama(folder))


def long_mixtral(folder: Path) -> Path:
    """A tiny Mixtral for sequences of CONTEXT tokens."""
    return _lengthened(write_tiny_mixtral(folder))


def _lengthened(folder: Path) -> Path:
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "max_position_embeddings": CONTEXT}))
    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama with room for completions that nobody waits for."""
    return long_llama(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="session")
def server(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeServer]:
    """The runtime that most tests share: they leave it as they found it."""
    running = RuntimeServer(tiny_checkpoint, tmp_path_factory.mktemp("server"))
    try:
        yield running.wait_until_ready()
        assert running.end() == 0, running.log.read_text()
    finally:
        running.close()


@pytest.fixture
def stub(server: RuntimeServer) -> Iterator[pb_grpc.GRPCInferenceServiceStub]:
    """The shared runtime's service."""
    with server.stub() as stub:
        yield stub
