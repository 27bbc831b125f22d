"""Command line of the runtime: flags in, exit code out.

Exit codes: 0 after SIGTERM; 1 when ranks die before they have loaded; 78 when the model can not be served and starting
again would not help, with the reason in the termination message.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from openmodel_runtime.config import DTYPES, KERNELS, QUANTIZATIONS, EngineConfig, GroupConfig, ServerConfig
from openmodel_runtime.errors import EXIT_START_FAILED, StartError
from openmodel_runtime.front.run import serve
from openmodel_runtime.group.supervisor import RankKeepsDying
from openmodel_telemetry.logs import configure_logging

_log = logging.getLogger("openmodel_runtime")


def parse_flags(arguments: Sequence[str]) -> tuple[ServerConfig, EngineConfig, GroupConfig]:
    """All configurations; a wrong flag ends the process with usage."""
    parser = argparse.ArgumentParser(
        prog="openmodel-runtime",
        description="Serves a Hugging Face checkpoint folder over gRPC (Open Inference Protocol v2).",
    )
    parser.add_argument("--model", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--name", help="name that callers use (default: the folder's)")
    parser.add_argument("--version", default="1", help="version that callers may use")
    parser.add_argument("--host", default=ServerConfig.host, help="address to listen on")
    parser.add_argument("--grpc-port", type=int, default=ServerConfig.grpc_port)
    parser.add_argument("--metrics-port", type=int, default=ServerConfig.metrics_port)
    parser.add_argument("--health-port", type=int, default=ServerConfig.health_port)
    parser.add_argument("--drain-seconds", type=float, default=ServerConfig.drain_seconds)
    parser.add_argument("--settle-seconds", type=float, default=ServerConfig.settle_seconds)
    parser.add_argument("--termination-message-path", type=Path, metavar="FILE")
    parser.add_argument("--dtype", choices=DTYPES, default=EngineConfig.dtype)
    parser.add_argument("--quantization", choices=QUANTIZATIONS, default=EngineConfig.quantization)
    parser.add_argument("--max-model-len", type=_positive)
    parser.add_argument("--max-num-seqs", type=_positive, default=EngineConfig.max_num_seqs)
    parser.add_argument("--max-num-batched-tokens", type=_positive, default=EngineConfig.max_num_batched_tokens)
    parser.add_argument("--memory-utilization", type=float, default=EngineConfig.memory_utilization)
    parser.add_argument("--expert-parallel-size", type=_positive, default=GroupConfig.size)
    parser.add_argument("--tensor-parallel-size", type=_positive, default=1, help="ranks that share each matrix")
    parser.add_argument("--redundant-experts", type=int, default=GroupConfig.redundant_experts)
    parser.add_argument("--failover-ranks", type=int, help="whose loss the others keep memory for (default: a pod's)")
    parser.add_argument("--rebalance-seconds", type=float, default=GroupConfig.rebalance_seconds)
    parser.add_argument("--ranks-per-pod", type=_positive, help="of those here (default: all)")
    parser.add_argument("--peers", default=GroupConfig.peers, metavar="HOST", help="of a pod, {pod} for its number")
    parser.add_argument("--pod", type=int, default=GroupConfig.pod, metavar="NUMBER", help="of this pod")
    parser.add_argument("--address", default=GroupConfig.address, help="under which other pods reach this one")
    parser.add_argument("--peer-port", type=int, default=GroupConfig.peer_port)
    parser.add_argument("--group-settings", type=Path, metavar="FILE", help="JSON: expert, redundantExperts")
    parser.add_argument("--threads", type=_positive, help="threads of a rank (default: all cores, shared by the ranks)")
    parser.add_argument("--prefix-caching", action=argparse.BooleanOptionalAction, default=EngineConfig.prefix_caching)
    parser.add_argument("--kernels", choices=KERNELS, default=EngineConfig.kernels, help="what computes")
    parser.add_argument(
        "--check-kernels", action="store_true", help="refuse to start when an answer would depend on its company"
    )
    flags = parser.parse_args(arguments)
    server = ServerConfig(
        model_path=flags.model,
        model_name=flags.name or flags.model.resolve().name,
        model_version=flags.version,
        host=flags.host,
        grpc_port=flags.grpc_port,
        metrics_port=flags.metrics_port,
        health_port=flags.health_port,
        drain_seconds=flags.drain_seconds,
        settle_seconds=flags.settle_seconds,
        termination_message_path=flags.termination_message_path,
    )
    ranks = max(flags.expert_parallel_size, flags.tensor_parallel_size)
    ranks_per_pod = flags.ranks_per_pod or ranks
    engine = EngineConfig(
        dtype=flags.dtype,
        quantization=flags.quantization,
        max_model_len=flags.max_model_len,
        max_num_seqs=flags.max_num_seqs,
        max_num_batched_tokens=flags.max_num_batched_tokens,
        memory_utilization=flags.memory_utilization,
        prefix_caching=flags.prefix_caching,
        threads=flags.threads or max(1, len(os.sched_getaffinity(0)) // ranks_per_pod),
        kernels=flags.kernels,
        check_kernels=flags.check_kernels,
    )
    group = GroupConfig(
        size=ranks,
        tensor=flags.tensor_parallel_size > 1,
        redundant_experts=flags.redundant_experts,
        failover_ranks=flags.failover_ranks,
        rebalance_seconds=flags.rebalance_seconds,
        ranks_per_pod=ranks_per_pod,
        pod=flags.pod,
        peers=flags.peers,
        address=flags.address,
        peer_port=flags.peer_port,
        settings=flags.group_settings,
    )
    if min(flags.expert_parallel_size, flags.tensor_parallel_size) > 1:
        parser.error("--expert-parallel-size and --tensor-parallel-size together are not supported: one of them is 1")
    if group.peers and not group.address:
        parser.error("--peers needs --address")
    if not group.peers and ranks_per_pod != group.size:
        parser.error("--ranks-per-pod: a group of several pods needs --peers")
    return server, engine, group


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    configure_logging()
    server, engine, group = parse_flags(sys.argv[1:] if arguments is None else arguments)
    try:
        asyncio.run(serve(server, engine, group))
    except StartError as error:
        _log.error("%s: %s", error.reason, error)
        _tell_kubelet(server.termination_message_path, error)
        return EXIT_START_FAILED
    except RankKeepsDying as error:
        _log.error("%s", error)
        return 1
    return 0


def _tell_kubelet(path: Path | None, error: StartError) -> None:
    """The kubelet copies the file into the container's status, where the operator reads it."""
    if path is not None:
        path.write_text(json.dumps({"reason": error.reason, "message": str(error)}))
