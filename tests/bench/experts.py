"""Ranks that share the experts: what the sharing costs, and what the loss of a rank does to the streams of the others.

A group of ranks with a thread each beside one rank with as many threads, in turn in one run. Then one of two ranks is
killed while streams run, once with its experts to be read from disk, once with copies of all of them on the other.
Last, a group of several pods wakes from rest, and grows and shrinks while streams run.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.measure.checkpoints import build_models
from bench.measure.client import run_round
from bench.measure.losses import Through, run_through
from bench.measure.prompts import PROMPT_TOKENS, PromptSource
from bench.measure.runtime import RuntimeProcess
from bench.report import plot_lines, write_result
from checkpoints import write_tiny_mixtral

_MODEL = "smollm2-moe-8x135m"
_EXPERTS = 8
_STREAMS = 32
_KILL_STREAMS = 16
# Every stream has had so many responses when a rank is killed.
_BEFORE = 8
_RESHARD_TOKENS = 350
_WAKES = 25
_REST_SECONDS = 0.2
_NETWORK = "127.77.1"


def main() -> None:
    """Measures, prints and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, fewer tokens")
    quick = parser.parse_args().quick
    tokens, rounds = (32, 1) if quick else (128, 3)
    checkpoint = build_models() / _MODEL
    prompts = PromptSource(checkpoint)
    scaling = _scaling(checkpoint, prompts, tokens, rounds)
    print(f"2 ranks x 1 thread: {scaling['ep2_over_ep1']:.2f} of the throughput of 1 rank x 2 threads", flush=True)
    kills, lines = {}, {}
    for name, redundant in (("kill", 0), ("kill_redundant", _EXPERTS)):
        kills[name], through = _kill(checkpoint, prompts, redundant)
        lines[name] = {"tokens/s": through.tokens_over_time(0.25)}
        print(f"{name}: {kills[name]}", flush=True)
    wake = _wake()
    print(f"wake: {wake}", flush=True)
    resharding, through = _reshard(checkpoint, prompts)
    lines["reshard 2, 4, 3, 2"] = {"tokens/s": through.tokens_over_time(0.25)}
    print(f"reshard: {resharding}", flush=True)
    print(write_result("experts", [], scaling=scaling, **kills, reshard=resharding, wake=wake))
    print(plot_lines("experts", lines, "seconds", "tokens/s, all streams", log=False))


@contextmanager
def _runtime(checkpoint: Path, ranks: int, redundant: int = 0) -> Iterator[RuntimeProcess]:
    threads = max(1, len(os.sched_getaffinity(0)) // ranks)
    with (
        tempfile.TemporaryDirectory() as folder,
        RuntimeProcess(
            checkpoint,
            Path(folder) / "log",
            threads=threads,
            max_streams=_STREAMS,
            max_tokens=512,
            ranks=ranks,
            redundant_experts=redundant,
        ) as runtime,
    ):
        runtime.wait_until_ready()
        yield runtime


def _scaling(checkpoint: Path, prompts: PromptSource, tokens: int, rounds: int) -> dict[str, Any]:
    """Whole requests; both run, one at a time is asked."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    with _runtime(checkpoint, 1) as one, _runtime(checkpoint, 2) as two:
        for _ in range(rounds):
            for ranks, runtime in ((1, one), (2, two)):
                taken = [prompt.text for prompt in prompts.take(_STREAMS)]
                figures = run_round(runtime.address, taken, tokens).figures
                rates[ranks].append(figures.tokens / figures.seconds)
    ep1, ep2 = (statistics.median(rates[ranks]) for ranks in (1, 2))
    return {
        "ep2_over_ep1": ep2 / ep1,
        "ep1_tokens_per_s": ep1,
        "ep2_tokens_per_s": ep2,
        "streams": _STREAMS,
        "prompt_tokens": PROMPT_TOKENS,
        "tokens": tokens,
    }


def _kill(checkpoint: Path, prompts: PromptSource, redundant: int) -> tuple[dict[str, Any], Through]:
    """The first of two ranks is killed; the other's streams are compared with an undisturbed run."""
    taken = [prompt.text for prompt in prompts.take(_KILL_STREAMS)]
    with _runtime(checkpoint, 2, redundant) as runtime:
        undisturbed = run_through(runtime.address, taken, 96, _BEFORE, lambda: None)

        def kill() -> None:
            _forget_pages(checkpoint)
            os.kill(runtime.ranks()[0], signal.SIGKILL)

        through = run_through(runtime.address, taken, 96, _BEFORE, kill)
    survivors = [stream for stream in through.streams if not stream.error]
    expected = {stream.text for stream in undisturbed.streams}
    return {
        "longest_gap_s": max(stream.longest_gap(through.happened) for stream in survivors),
        "longest_gap_undisturbed_s": max(stream.longest_gap(undisturbed.happened) for stream in undisturbed.streams),
        "streams": len(through.streams),
        "of_the_killed_rank": len(through.streams) - len(survivors),
        "errors": sum(stream.tokens < 96 for stream in survivors),
        "wrong_tokens": sum(stream.text not in expected for stream in survivors),
    }, through


def _reshard(checkpoint: Path, prompts: PromptSource) -> tuple[dict[str, Any], Through]:
    """A group of two pods grows to four, shrinks to three, to two; streams of the first, beside an undisturbed run.

    The pods are processes of this machine, each at an address of its own.
    """
    taken = [prompt.text for prompt in prompts.take(_KILL_STREAMS)]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def pod(number: int, size: int) -> RuntimeProcess:
            return stack.enter_context(_pod(checkpoint, folder, number, size))

        pods = {number: pod(number, 2) for number in range(2)}
        for each in pods.values():
            each.wait_until_ready()
        undisturbed = run_through(pods[0].address, taken, _RESHARD_TOKENS, _BEFORE, lambda: None)

        def reshard() -> None:
            pods.update({number: pod(number, 4) for number in (2, 3)})
            for each in (pods[2], pods[3]):
                each.wait_until_ready()
            for number in (3, 2):
                pods[number].end()

        through = run_through(pods[0].address, taken, _RESHARD_TOKENS, _BEFORE, reshard)
    expected = {stream.text for stream in undisturbed.streams}
    return {
        "longest_gap_s": max(stream.longest_gap(through.happened) for stream in through.streams),
        "longest_gap_undisturbed_s": max(stream.longest_gap(undisturbed.happened) for stream in undisturbed.streams),
        "streams": len(through.streams),
        "errors": sum(stream.tokens < _RESHARD_TOKENS for stream in through.streams),
        "wrong_tokens": sum(stream.text not in expected for stream in through.streams),
        "seconds": through.settled - through.happened,
        "all_streams_went_through_it": all(stream.times[-1] > through.settled for stream in through.streams),
    }, through


def _pod(checkpoint: Path, folder: Path, number: int, size: int) -> RuntimeProcess:
    """A pod of a group."""
    flags = [
        *("--ranks-per-pod=1", f"--pod={number}", f"--peers={_NETWORK}.{{pod}}"),
        *(f"--address={_NETWORK}.{number}", "--drain-seconds=5"),
    ]
    return RuntimeProcess(
        checkpoint,
        folder / f"log-{number}-{size}",
        threads=1,
        max_streams=_STREAMS,
        max_tokens=512,
        ranks=size,
        more_flags=flags,
    )


def _wake() -> dict[str, float]:
    """One token of a tiny model from a group of two pods that rests, beside a rank alone, in turn; milliseconds."""
    seconds: dict[str, list[float]] = {"alone_ms": [], "group_ms": []}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        checkpoint = write_tiny_mixtral(folder / "tiny")
        alone = stack.enter_context(_runtime(checkpoint, 1))
        pods = [stack.enter_context(_pod(checkpoint, folder, number, 2)) for number in range(2)]
        for each in (alone, *pods):
            each.wait_until_ready()
        for _ in range(_WAKES):
            for name, runtime in (("alone_ms", alone), ("group_ms", pods[0])):
                time.sleep(_REST_SECONDS)
                seconds[name].append(run_round(runtime.address, ["a"], 1).figures.seconds)
    return {name: 1000 * statistics.median(found) for name, found in seconds.items()}


def _forget_pages(checkpoint: Path) -> None:
    """Experts must come from the disk, not from the page cache."""
    for path in checkpoint.glob("*.safetensors"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()
