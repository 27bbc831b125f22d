"""Makes a peer's environment from its locked requirements, and the file that it reads where it reads no checkpoint.

uv installs, out of the cache that the development environment filled: a torch that both use is on the disk once.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.peers.catalog import ROOT, Peer, peers_folder

_UV = ROOT / ".venv" / "bin" / "uv"
_STAMP = "requirements.sha256"


class PeerUnavailable(Exception):
    """A peer that can not be had here; the text says why."""


def install(peer: Peer) -> None:
    """Does nothing where the environment is there and made of the same packages."""
    wanted = hashlib.sha256(peer.lock.read_bytes() + repr(peer.build).encode()).hexdigest()
    stamp = peer.folder / _STAMP
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"{peer.name}: making its environment, the first time only", flush=True)
    _run([_UV, "venv", "--quiet", "--clear", "--python", sys.executable, peer.folder])
    # The lock is the whole truth: it leaves out what a package asks for and the CPU does not need.
    packages: list[Path | str] = ["--no-deps", "--require-hashes", "--requirement", peer.lock]
    _run([_UV, "pip", "install", "--quiet", "--python", peer.python, *packages], dict(peer.build))
    stamp.write_text(wanted)


def model_file(peer: Peer, checkpoint: Path) -> Path:
    """What the peer loads: the checkpoint, or a file that is made of it once."""
    if not peer.wants_gguf:
        return checkpoint
    # The checkpoint's folder is named after what it was built from.
    file = peers_folder() / "gguf" / checkpoint.parent.name / f"{checkpoint.name}.gguf"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        _run([peer.python, "-m", "bench.peers.write_gguf", checkpoint, file])
    return file


def _run(command: Sequence[Path | str], environment: Mapping[str, str] | None = None) -> None:
    run = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT / "tests",
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if run.returncode:
        raise PeerUnavailable(f"{Path(command[0]).name} {command[1]} failed: {run.stderr.strip()[-500:]}")
