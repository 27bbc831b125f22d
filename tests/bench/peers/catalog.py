"""The engines that ours is compared with, and how each runs at its best on a CPU. Pure data and paths."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def peers_folder() -> Path:
    """Where the environments of the peers live: $OPENMODEL_CACHE/peers, by default ~/.cache/openmodel/peers."""
    cache = os.environ.get("OPENMODEL_CACHE")
    return (Path(cache) if cache else Path.home() / ".cache" / "openmodel") / "peers"


@dataclass(frozen=True, slots=True)
class Peer:
    """One engine."""

    name: str
    module: str
    """What runs in its environment."""
    requirements: str
    """Its locked packages, a file of `requirements`."""
    environment: Callable[[Path, int], dict[str, str]]
    """Variables for its process, from its environment's folder and the number of threads."""
    build: tuple[tuple[str, str], ...] = ()
    """Variables for building its packages."""
    wants_gguf: bool = False
    """True: it reads a GGUF file and no checkpoint folder."""

    @property
    def folder(self) -> Path:
        """Its environment."""
        return peers_folder() / self.requirements

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return self.folder / "bin" / "python"

    @property
    def lock(self) -> Path:
        """File of its packages, exact versions with hashes."""
        return Path(__file__).with_name("requirements") / f"{self.requirements}.txt"


def _plain(folder: Path, threads: int) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}


def _vllm(folder: Path, threads: int) -> dict[str, str]:
    """Intel's OpenMP, set as vLLM sets it, and everything in one process.

    Measured on two cores: quicker than GNU's OpenMP, and than vLLM's three processes, which share the cores.
    """
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:threads]))
    cache = folder.with_name("vllm-cache")
    return {
        **_plain(folder, threads),
        "LD_PRELOAD": str(folder / "lib" / "libiomp5.so"),
        "KMP_AFFINITY": f"granularity=fine,explicit,proclist=[{cores}]",
        "KMP_BLOCKTIME": "5",
        "KMP_TPAUSE": "0",
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "VLLM_CACHE_ROOT": str(cache),
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_CPU_OMP_THREADS_BIND": cores,
        "VLLM_DO_NOT_TRACK": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
    }


PEERS = (
    Peer(
        "llama.cpp",
        "bench.peers.peer_llama_cpp",
        "llama_cpp",
        _plain,
        build=(("CMAKE_ARGS", "-DGGML_NATIVE=ON"),),
        wants_gguf=True,
    ),
    Peer("vllm", "bench.peers.peer_vllm", "vllm", _vllm),
    Peer("transformers", "bench.peers.peer_transformers", "transformers", _plain),
)
