"""What a runtime process is told: frozen, checked once, handed on in parts.

Knows no flags and no files; `main` fills it from flags, `checkpoint` reads what the files say.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DTYPES = ("auto", "bfloat16", "float16", "float32")
QUANTIZATIONS = ("auto", "none", "int8")
KERNELS = ("auto", "cpu", "reference", "triton")


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Settings of the engine, in vLLM's words."""

    dtype: str = "auto"
    """Dtype of weights and activations; `auto` takes the checkpoint's."""
    quantization: str = "auto"
    """`auto` and `none`: weights in the dtype, whatever they are stored as; `int8`: in eight bits, a factor a row."""
    max_model_len: int | None = None
    """Tokens of prompt and completion together; None takes the checkpoint's maximum."""
    max_num_seqs: int = 256
    """Sequences that one step may run."""
    max_num_batched_tokens: int = 8192
    """Tokens that one step may compute."""
    memory_utilization: float = 0.9
    """Share of the memory that may be used, weights and cache together."""
    prefix_caching: bool = True
    """Whether a prompt takes up the cached beginning of another."""
    threads: int = 1
    """Threads that the rank computes with."""
    kernels: str = "auto"
    """Backend that computes; `auto` takes the best that the machine has."""
    check_kernels: bool = False
    """Whether to try at start that the kernels give a row the same bits in any company."""


@dataclass(frozen=True, kw_only=True)
class GroupConfig:
    """Settings of the ranks that share the experts, or the matrices."""

    size: int = 1
    """Ranks that a group starts with; one that runs has as many as come to it."""
    tensor: bool = False
    """The ranks share each matrix of a dense model: the group runs with all of them, or not at all."""
    redundant_experts: int = 0
    """Copies of experts in each layer beside the first."""
    failover_ranks: int | None = None
    """Ranks whose loss the others keep memory for before the cache gets it; None: a pod's, or one, if it fits."""
    rebalance_seconds: float = 120.0
    """How long experts stay where they are before some are moved for an even load; 0: for ever."""
    ranks_per_pod: int = 1
    pod: int = 0
    """Number of this pod among those of the group."""
    peers: str = ""
    """Host of a pod of the group, with `{pod}` for its number; "" when the group has this pod alone."""
    address: str = ""
    """Under which other pods reach this one."""
    peer_port: int = 8004
    """On which the pods of a group hear each other."""
    settings: Path | None = None
    """JSON file whose `expert` and `redundantExperts` go before what is here, and may change."""


@dataclass(frozen=True, kw_only=True)
class GroupMember:
    """A rank's place in its group."""

    rank: int
    size: int
    """Ranks of the group."""
    epoch: int
    """Its number: groups of one model follow one another."""
    store: str
    """Where they meet, new for each group: a file that is their memory, or HOST:PORT of the first rank."""
    address: str = ""
    """Under which ranks of other pods reach this one's; "" when one pod has them all."""


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Settings of the front."""

    model_path: Path
    """Folder of the checkpoint."""
    model_name: str
    """Name that callers use."""
    model_version: str
    """Version that callers may use; "" in a request means this one."""
    host: str = "[::]"
    """Address that all ports listen on."""
    grpc_port: int = 8001
    """Open Inference Protocol."""
    metrics_port: int = 8002
    """Prometheus exposition."""
    health_port: int = 8003
    """Plaintext grpc.health.v1 for the kubelet."""
    max_waiting_requests: int = 1024
    """Requests that may be under way at once; more are refused with RESOURCE_EXHAUSTED."""
    max_message_bytes: int = 16 << 20
    """Largest request that is read."""
    drain_seconds: float = 120.0
    """How long requests under way may go on after SIGTERM."""
    settle_seconds: float = 0.0
    """How long new calls are still taken after SIGTERM, while whoever routes them here hears of it."""
    termination_message_path: Path | None = None
    """File that tells the kubelet why the process ended."""
