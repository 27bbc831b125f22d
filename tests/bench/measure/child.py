"""A program that a benchmark starts, in a session of its own: it can be stilled, and ends with all that it started.

Knows processes; does not know what the program does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from bench.measure.cpu import session_pids

_END_SECONDS = 20.0


class Child:
    """A running program. Leaving the `with` ends it."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        talks: bool = False,
    ) -> None:
        self.log = log
        self.began = time.monotonic()
        pipe = subprocess.PIPE if talks else None
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                cwd=cwd,
                env={**os.environ, **(environment or {})},
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or errors,
                stderr=errors,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @property
    def session(self) -> int:
        """Its process id, which is also that of its session."""
        return self._process.pid

    @property
    def input(self) -> IO[bytes]:
        """What it reads."""
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def output(self) -> IO[bytes]:
        """What it says."""
        assert self._process.stdout is not None
        return self._process.stdout

    def has_ended(self) -> bool:
        """Whether the program itself is gone."""
        return self._process.poll() is not None

    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-2000:].strip()

    def pause(self) -> None:
        """Stills it: a thread that spins while it waits would take a core from whoever is measured."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """Asks it to end, and makes it."""
        self.resume()
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        self._signal(signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _signal(self, number: signal.Signals) -> None:
        for pid in session_pids(self.session):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
