"""How many tokens of keys and values there is room for.

Knows what the process may use (its cgroup's limit, else the machine's memory) and what is left once the weights are in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from openmodel_runtime.errors import DoesNotFit

# cgroup v2, then v1. An unlimited v1 group reports a huge number, which the machine's memory bounds below.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of the process, in bytes."""

    total: int
    """What it may use at most."""
    used: int
    """What it and the rest of its pod use now and can not give back."""


def read_memory() -> Memory:
    """The memory of this process's pod, or of the machine outside of one."""
    machine = {
        line.split(":")[0]: int(line.split()[1]) * 1024
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith(("MemTotal", "MemAvailable"))
    }
    total, used = machine["MemTotal"], machine["MemTotal"] - machine["MemAvailable"]
    for path in map(Path, _LIMITS):
        if path.exists() and (text := path.read_text().strip()) != "max" and int(text) < total:
            # Page cache in the group's own count can be given back: count what processes hold instead.
            return Memory(int(text), _anonymous_bytes())
    return Memory(total, used)


def _anonymous_bytes() -> int:
    """Memory that all processes of this pod hold for themselves (they share a PID namespace)."""
    held = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = status.read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        held += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
    return held


def kv_cache_tokens(memory: Memory, utilization: float, bytes_per_token: int, max_model_len: int) -> int:
    """Tokens that fit beside the weights; DoesNotFit when not even one sequence of `max_model_len` does."""
    free = int(memory.total * utilization) - memory.used
    tokens = free // bytes_per_token
    if tokens < max_model_len:
        wanted = max_model_len * bytes_per_token
        shorter = f"lower engine.maxModelLen to {tokens} or " if tokens > 0 else ""
        raise DoesNotFit(
            f"the cache of one sequence of {max_model_len} tokens needs {wanted} bytes and {max(free, 0)} are left of "
            f"{memory.total} at memoryUtilization {utilization}: {shorter}"
            f"raise the memory limit to {int((memory.used + wanted) / utilization)} bytes"
        )
    return tokens
