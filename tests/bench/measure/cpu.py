"""Who used the processors: one session of processes, or everybody else. Reads /proc; starts and ends nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_QUIET = 0.1
_SAMPLE_SECONDS = 0.5


def session_pids(session: int) -> list[int]:
    """All processes of a session: whoever its first process started, directly or not."""
    return [pid for pid, fields in _processes() if int(fields[3]) == session]


def cpu_seconds(sessions: Iterable[int]) -> float:
    """Processor time that the sessions' living processes, and those they have waited for, have used."""
    wanted = set(sessions)
    ticks = sum(sum(map(int, fields[11:15])) for _, fields in _processes() if int(fields[3]) in wanted)
    return ticks / _TICKS


def peak_resident_bytes(session: int) -> int:
    """Sum of the peaks of a session's processes; what they share counts once for each."""
    lines: list[str] = []
    for pid in session_pids(session):
        try:
            lines += Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


class ForeignUse:
    """Share of the machine's processor time that neither we nor some sessions used, since it was made.

    What a hypervisor took away counts too: those cores were not ours either.
    """

    def __init__(self, sessions: Sequence[int]) -> None:
        self._sessions = sessions
        self._began = time.monotonic()
        self._before = self._foreign_seconds()

    def share(self) -> float:
        """0.0: all to ourselves; 1.0: nothing was left."""
        seconds = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        return round(max(0.0, self._foreign_seconds() - self._before) / seconds, 3)

    def _foreign_seconds(self) -> float:
        user, nice, system, _, _, interrupts, soft, stolen = map(
            int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        )
        busy = (user + nice + system + interrupts + soft + stolen) / _TICKS
        return busy - cpu_seconds(self._sessions) - time.process_time()


def wait_until_quiet(limit_seconds: float) -> None:
    """Returns once others leave the processors alone, or when the time is over: figures carry what was left of it."""
    deadline = time.monotonic() + limit_seconds
    while time.monotonic() < deadline:
        use = ForeignUse(())
        time.sleep(_SAMPLE_SECONDS)
        if use.share() < _QUIET:
            return


def _processes() -> list[tuple[int, list[str]]]:
    """Every process with the fields of its stat after the name: state, parent, group, session, …"""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found.append((int(path.parent.name), path.read_text().rpartition(")")[2].split()))
        except OSError:  # it ended meanwhile
            continue
    return found
