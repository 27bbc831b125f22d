"""A group of pods under load for a while, with something happening to it again and again.

Every answer must be the one that an undisturbed rank gives; an error may only be UNAVAILABLE. A pod to which nothing
happens must not hold more at the end than when it was warm: memory, files, threads.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.report import write_result
from chaos.callers import Callers, cases
from contract.pods import Pods
from contract.runtime_server import RuntimeServer, long_mixtral, until

_CALLERS = 8
_SPARED = 1
"""The pod to which nothing happens."""
# A small cache: memory that grows after it has been filled once has leaked.
_FLAGS = ("--rebalance-seconds=3", "--max-num-seqs=16", "--max-model-len=1024")
_MOST = 4
_STANDS_STILL_SECONDS = 3.5


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    kib: int
    """Memory of its own."""
    files: int
    threads: int


def held(pid: int) -> Held:
    """What the process holds now."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    files = len(os.listdir(f"/proc/{pid}/fd"))
    return Held(int(status["RssAnon"].split()[0]), files, int(status["Threads"]))


class Soak:
    """One run."""

    def __init__(self, folder: Path, seconds: float, seed: int) -> None:
        self._chance = random.Random(seed)
        self._seconds = seconds
        self._seed = seed
        self._model = long_mixtral(folder / "model")
        self._folder = folder
        self._pods = Pods(self._model, folder, 3, _FLAGS)
        # Ranks that must have been replaced.
        self._gone: set[int] = set()
        self._happened: Counter[str] = Counter()
        self._held: list[tuple[float, dict[str, Held]]] = []

    def run(self) -> dict[str, Any]:
        """Runs for so long, and says how it went."""
        alone = RuntimeServer(self._model, self._scratch("alone"), _FLAGS)
        try:
            alone.wait_until_ready()
            with alone.stub() as stub:
                asked = cases(stub)
        finally:
            alone.close()
        try:
            self._pods.start(0, 1, 2)
            self._pods.wait_until_ready()
            callers = Callers(self._pods, asked, _CALLERS, self._seed)
            try:
                self._disturb()
            finally:
                callers.stop()
            self._pods.wait_until_ready()
            self._pods.wait_until_resting()
            self._measure(self._seconds)
            return self._result(callers)
        except BaseException:
            print(self._pods.logs(), file=sys.stderr)
            raise
        finally:
            self._pods.close()

    def _scratch(self, name: str) -> Path:
        path = self._folder / name
        path.mkdir()
        return path

    def _disturb(self) -> None:
        began = time.monotonic()
        events: list[Callable[[], None]] = [
            self._kill_rank,
            self._stop_rank,
            self._kill_pod,
            self._stand_still,
            self._grow,
            self._shrink,
            self._kill_two,
        ]
        measured = 0.0
        while (past := time.monotonic() - began) < self._seconds:
            event = self._chance.choice(events)
            event()
            self._happened[event.__name__.strip("_")] += 1
            self._until_whole()
            if past - measured > self._seconds / 20:
                measured = past
                self._measure(past)

    def _measure(self, at: float) -> None:
        server = self._pods.pods[_SPARED]
        self._held.append((at, {"front": held(server.process.pid), "rank": held(server.rank())}))

    def _until_whole(self) -> None:
        """All pods have a rank and know of the same epoch, which has them all."""

        def whole() -> bool:
            ranks = [rank for server in self._pods.pods.values() for rank in server.ranks()]
            if len(ranks) != len(self._pods.pods) or self._gone & {*ranks}:
                return False
            epochs = {self._pods.epoch(pod) for pod in self._pods.pods}
            return len(epochs) == 1 and epochs.pop()[1] == len(self._pods.pods)

        until(whole, f"the group is whole after {dict(self._happened)}")
        self._pods.wait_until_ready()

    def _victim(self) -> int:
        return self._chance.choice([pod for pod in self._pods.pods if pod != _SPARED])

    def _kill_rank(self) -> None:
        self._signal_ranks(signal.SIGKILL, self._victim())

    def _stop_rank(self) -> None:
        self._signal_ranks(signal.SIGSTOP, self._victim())

    def _kill_two(self) -> None:
        self._signal_ranks(signal.SIGKILL, *[pod for pod in self._pods.pods if pod != _SPARED][:2])

    def _signal_ranks(self, number: signal.Signals, *pods: int) -> None:
        for pod in pods:
            rank = self._pods.pods[pod].rank()
            self._gone.add(rank)
            os.kill(rank, number)

    def _kill_pod(self) -> None:
        victim = self._victim()
        self._pods.kill(victim)
        self._pods.start(victim, size=len(self._pods.pods) + 1)

    def _stand_still(self) -> None:
        with self._pods.standing_still(self._victim()):
            time.sleep(_STANDS_STILL_SECONDS)

    def _grow(self) -> None:
        if len(self._pods.pods) < _MOST:
            self._pods.start(len(self._pods.pods), size=len(self._pods.pods) + 1)

    def _shrink(self) -> None:
        if len(self._pods.pods) > _SPARED + 1:
            assert self._pods.end(len(self._pods.pods) - 1) == 0

    def _result(self, callers: Callers) -> dict[str, Any]:
        server = self._pods.pods[_SPARED]
        free = server.metric("openmodel_runtime_kv_cache_free_tokens")
        return {
            "seconds": self._seconds,
            "requests": dict(callers.ends),
            "faults": callers.faults[:10],
            "events": dict(self._happened),
            "epochs": server.metric("openmodel_runtime_group_epoch") // 8,
            "leaked_cache_tokens": server.metric("openmodel_runtime_kv_cache_tokens") - free,
            "held": [
                {"at": round(at), **{name: asdict(each) for name, each in which.items()}} for at, which in self._held
            ],
        }


def soak(seconds: float, seed: int) -> dict[str, Any]:
    """Runs in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return Soak(Path(folder), seconds, seed).run()


def main() -> None:
    """Runs, prints and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    result = soak(60 * arguments.minutes, arguments.seed)
    print({name: value for name, value in result.items() if name != "held"})
    print("held at first and last:", result["held"][0], result["held"][-1])
    print(write_result("soak", result.pop("held"), **result))


if __name__ == "__main__":
    main()
