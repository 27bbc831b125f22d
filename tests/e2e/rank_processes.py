"""The rank processes of a pod, seen from its node.

Knows /proc; the node is this machine.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def ranks_of(uid: str) -> list[int]:
    """Process ids of the ranks of the pod with this uid."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            # Drivers of control groups write a uid with dashes or with underscores.
            group = (process / "cgroup").read_text().replace("_", "-")
            if uid in group and b"openmodel_runtime.rank" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def bytes_read(pid: int) -> int:
    """What the process has read, from files and sockets."""
    return _number(f"/proc/{pid}/io", "rchar")


def memory(pid: int) -> int:
    """The process's share of the memory that it has mapped, in bytes."""
    return 1024 * _number(f"/proc/{pid}/smaps_rollup", "Pss")


def _number(path: str, name: str) -> int:
    lines = Path(path).read_text().splitlines()
    (line,) = [line for line in lines if line.split(":")[0] == name]
    return int(line.split()[1])
