"""Our runtime as a local process: started, waited for, looked at, ended.

Knows its flags and its health service; sends no inference.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.measure.child import Child
from bench.measure.cpu import cpu_seconds, peak_resident_bytes, wait_until_quiet

MODEL = "bench"
_HOST = "127.0.0.1"
_READY_SECONDS = 300.0
_REST_SECONDS = 20.0
_POLL_SECONDS = 0.02
_SOON_AGAIN = [("grpc.initial_reconnect_backoff_ms", 20), ("grpc.max_reconnect_backoff_ms", 20)]
# Room for the cache beside twice the weights: while they load, some are there in two layouts.
_CACHE_BYTES = 3 << 30


class RuntimeProcess(Child):
    """One runtime with one model."""

    def __init__(
        self,
        checkpoint: Path,
        log: Path,
        *,
        threads: int,
        max_streams: int,
        max_tokens: int,
        ranks: int = 1,
        redundant_experts: int = 0,
        more_flags: Sequence[str] = (),
    ) -> None:
        port, metrics_port, self._health_port = _free_ports(3)
        self.address = f"{_HOST}:{port}"
        self.flags = {
            "threads": str(threads),
            "expert-parallel-size": str(ranks),
            "redundant-experts": str(redundant_experts),
            "dtype": "bfloat16",
            "max-num-seqs": str(max_streams),
            "max-model-len": str(max_tokens),
            "memory-utilization": f"{_memory_utilization(checkpoint):.2f}",
        }
        super().__init__(
            [
                *(sys.executable, "-m", "openmodel_runtime", f"--model={checkpoint}", f"--name={MODEL}"),
                *(f"--host={_HOST}", f"--grpc-port={port}", f"--metrics-port={metrics_port}"),
                f"--health-port={self._health_port}",
                *(f"--{name}={value}" for name, value in self.flags.items()),
                *more_flags,
            ],
            log,
        )

    def wait_until_ready(self) -> float:
        """Seconds from the start of the process until its health service says SERVING."""
        with grpc.insecure_channel(f"{_HOST}:{self._health_port}", _SOON_AGAIN) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            while not _serves(health):
                if self.has_ended() or time.monotonic() - self.began > _READY_SECONDS:
                    raise RuntimeError(f"the runtime does not get ready: {self.last_words()}")
                time.sleep(_POLL_SECONDS)
        return time.monotonic() - self.began

    def idle_cpu_percent(self, seconds: float) -> float:
        """Processor time of all its processes while nobody asks anything, of one core.

        Once it has come to rest: a rank that is Ready goes on for a moment to make memory ready for its cache.
        """
        wait_until_quiet(_REST_SECONDS)
        before = cpu_seconds([self.session])
        time.sleep(seconds)
        return 100 * (cpu_seconds([self.session]) - before) / seconds

    def ranks(self) -> list[int]:
        """Process ids of its ranks."""
        children = Path(f"/proc/{self.session}/task/{self.session}/children").read_text().split()
        return [int(pid) for pid in children if b"openmodel_runtime.rank" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def peak_resident_bytes(self) -> int:
        """Sum of the peaks of its processes."""
        return peak_resident_bytes(self.session)


def _serves(health: health_pb2_grpc.HealthStub) -> bool:
    try:
        reply = health.Check(health_pb2.HealthCheckRequest(), timeout=5)
    except grpc.RpcError:
        return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


def _memory_utilization(checkpoint: Path) -> float:
    """The share of this machine's memory to give, what others use now included: the peers need the rest."""
    memory = {
        line.split(":")[0]: int(line.split()[1]) * 1024 for line in Path("/proc/meminfo").read_text().splitlines()
    }
    weights = sum(path.stat().st_size for path in checkpoint.glob("*.safetensors"))
    used = memory["MemTotal"] - memory["MemAvailable"]
    return min(0.9, (used + 2 * weights + _CACHE_BYTES) / memory["MemTotal"])


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind((_HOST, 0))
    ports: list[int] = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports
