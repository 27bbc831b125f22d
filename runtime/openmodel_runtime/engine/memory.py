"""How much memory there is, and how many blocks of keys and values it has room for.

Knows what the process may use (its cgroup's limit, else the machine's memory) and what is left once the weights are in.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from openmodel_runtime.checkpoint.model_config import ModelConfig
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
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            held += held_bytes(process)
    return held


def held_bytes(process: Path = Path("/proc/self")) -> int:
    """Memory that a process holds for itself: not files, not what it shares."""
    status = (process / "status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))


@dataclass(frozen=True, slots=True)
class MemoryBill:
    """What the memory of a rank is for, in bytes."""

    total: int
    """What the process may use."""
    usable: int
    """The share of it that `memoryUtilization` allows."""
    held: int
    """What is held once the weights are in: weights, interpreter, libraries' data, the rest of the pod."""
    activations: int
    """The most that a step needs beside."""
    failover: int
    """Room for experts of ranks that are lost."""
    kv_cache: int
    """The cache, as far as blocks fit; the system hands it out when it is first written."""

    def __str__(self) -> str:
        parts = {
            "held": self.held,
            "activations": self.activations,
            "failover": self.failover,
            "cache": self.kv_cache,
        }
        told = ", ".join(f"{name} {count >> 20} MiB" for name, count in parts.items())
        return f"{told}, of {self.usable >> 20} MiB usable and {self.total >> 20} MiB in all"


@dataclass(frozen=True, slots=True)
class ExpertMemory:
    """What a rank's experts take, and what it should have room for."""

    experts: int
    """Of each layer."""
    held: int
    """Experts of a layer that it holds."""
    expert_bytes: int
    """One expert of each layer."""
    wanted: tuple[int, ...] = ()
    """Experts of a layer that it should have room for: the first of these numbers that fits."""


@dataclass(frozen=True, slots=True)
class CacheSplit:
    """What is left of the memory, divided."""

    blocks: int
    """Of the cache."""
    failover: int
    """Bytes for further experts."""
    room: int
    """Experts of a layer that there is memory for, with those that are held."""


def split_for_failover(blocks: int, block_bytes: int, needed: int, most: int, experts: ExpertMemory) -> CacheSplit:
    """Divides what is left between cache and further experts; these come first, but for one longest sequence.

    Args:
        blocks: that fit, if all is cache.
        block_bytes: of one.
        needed: blocks of one sequence of the longest length.
        most: blocks that would ever be held.
        experts: what they take.
    """
    spare = (blocks - needed) * block_bytes
    further = [max(0, min(wanted, experts.experts) - experts.held) for wanted in experts.wanted]
    fitting = (count * experts.expert_bytes for count in further if count * experts.expert_bytes <= spare)
    failover = next(fitting, 0)
    left = blocks * block_bytes - failover
    kept = min(left // block_bytes, most)
    # What the cache would never hold has room for experts as well.
    free = failover + left - kept * block_bytes
    room = experts.held + free // max(1, experts.expert_bytes)
    return CacheSplit(kept, failover, min(room, experts.experts))


def activation_bytes(config: ModelConfig, rows: int, sampled: int, element_bytes: int) -> int:
    """The most that a step of `rows` tokens, `sampled` of which get a next one, needs for what is computed on the way.

    Counted generously: the residual stream with its norm and sum, the attention's projections, the widest of the
    feed-forward block (every chosen expert has its own rows), and the logits with two copies for the sampler.
    """
    heads = config.attention
    attention = (2 * heads.heads + 2 * heads.kv_heads) * heads.head_dim
    if (latent := heads.latent) is not None:
        attention += heads.heads * (latent.rotary_dim + latent.head_dim + 2 * latent.kv_rank + latent.value_dim)
    feed_forward = config.feed_forward.intermediate_size + 2 * config.hidden_size
    if (experts := config.experts) is not None:
        expert = experts.expert.intermediate_size + 2 * config.hidden_size
        shared = experts.shared.intermediate_size if experts.shared else 0
        feed_forward = max(feed_forward, experts.per_token * expert, shared)
    row = (3 * config.hidden_size + max(attention, feed_forward)) * element_bytes + 2 * heads.head_dim * 4
    return rows * row + 3 * 4 * sampled * config.vocab_size


def kv_cache_blocks(
    memory: Memory, utilization: float, activations: int, block_bytes: int, blocks_needed: int, ranks: int = 1
) -> int:
    """Blocks that fit beside what is held; DoesNotFit when one sequence of the longest length would not.

    Args:
        memory: as it is with the weights in.
        utilization: share of the memory that may be used.
        activations: bytes that a step needs.
        block_bytes: bytes of a block in all layers.
        blocks_needed: blocks of one sequence of the longest length.
        ranks: that share what is left; all have their weights in.
    """
    free = (int(memory.total * utilization) - memory.used) // ranks - activations
    blocks = free // block_bytes
    if blocks < blocks_needed:
        wanted = blocks_needed * block_bytes
        raise DoesNotFit(
            f"the cache of one sequence of the longest length (engine.maxModelLen) needs {wanted} bytes and "
            f"{max(free, 0)} are left of {memory.total} at memoryUtilization {utilization}: lower engine.maxModelLen "
            f"or raise the memory limit to {int((memory.used + ranks * (activations + wanted)) / utilization)} bytes"
        )
    return blocks
