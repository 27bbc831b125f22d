"""What telling of itself costs the runtime: three of them with the same model, in turn, on the local processors.

One tells nobody but Prometheus; one sends every span and its metrics to a collector that takes them; one to a collector
that takes connections and never answers. A round is short requests by several callers; figures are of rounds side by
side, and the ends of 95 % intervals over all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import math
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc

from bench.measure.checkpoints import build_models
from bench.measure.client import Infer, infer_request
from bench.measure.runtime import RuntimeProcess
from bench.report import plot_lines, write_result
from otlp_collector import Collector, a_collector

CALLERS, REQUESTS, TOKENS = 4, 64, 16
# Rounds of each, and Student's t for their 95 % interval.
ROUNDS, QUICK_ROUNDS = (24, 2.069), (12, 2.201)
_METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"
NAMES = ("nobody", "collector", "hung collector")


def main() -> None:
    """Measures, prints and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS[0]} rounds instead of {ROUNDS[0]}")
    rounds, student = QUICK_ROUNDS if parser.parse_args().quick else ROUNDS
    checkpoint = build_models() / "smollm2-135m-instruct"
    numbers = itertools.count()
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        collectors = [stack.enter_context(a_collector()) for _ in NAMES[1:]]
        collectors[1].hangs = True
        runtimes = [
            _start(stack, checkpoint, logs / name, collector)
            for name, collector in zip(NAMES, (None, *collectors), strict=True)
        ]
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in NAMES}
        for number in range(rounds + 1):
            # Each is first as often as the others.
            turn = [(number + index) % len(NAMES) for index in range(len(NAMES))]
            for index in turn:
                # No two alike: the prefix cache has seen none of them.
                texts = [f"{next(numbers)} is a number. Tell me what it is known for." for _ in range(REQUESTS)]
                figures = asyncio.run(_round(runtimes[index].address, texts))
                if number:
                    measured[NAMES[index]].append(figures)
        spans = len(collectors[0].spans)
    row = _row(measured, student) | {"rounds": rounds, "spans": spans}
    print(row)
    speeds = {name: [(float(at), each[0]) for at, each in enumerate(values)] for name, values in measured.items()}
    slow = {name: [(float(at), each[1] * 1000) for at, each in enumerate(values)] for name, values in measured.items()}
    panels = {"tokens a second": speeds, "p99 of a request, ms": slow}
    plot_lines("telemetry", panels, "round", "", log=False)
    print(write_result("telemetry", [row], settings={"callers": CALLERS, "requests": REQUESTS, "tokens": TOKENS}))


def _start(stack: ExitStack, checkpoint: Path, log: Path, collector: Collector | None) -> RuntimeProcess:
    variables = {} if collector is None else {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}"}
    os.environ.update(variables)
    try:
        runtime = stack.enter_context(RuntimeProcess(checkpoint, log, threads=2, max_streams=8, max_tokens=1024))
    finally:
        for name in variables:
            del os.environ[name]
    runtime.wait_until_ready()
    return runtime


async def _round(address: str, texts: Sequence[str]) -> tuple[float, float]:
    """Tokens a second of all callers, and what ninety-nine of a hundred requests stay within, in seconds."""
    waiting, took = list(texts), []
    async with grpc.aio.insecure_channel(address) as channel:
        await channel.channel_ready()
        infer: Infer = channel.stream_stream(_METHOD)

        async def call() -> None:
            while waiting:
                request = infer_request(waiting.pop(), TOKENS).SerializeToString()
                began = time.perf_counter()
                stream = infer()
                await stream.write(request)
                await stream.done_writing()
                async for _ in stream:
                    pass
                took.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(CALLERS)))
        seconds = time.perf_counter() - began
    took.sort()
    return len(texts) * TOKENS / seconds, took[min(len(took) - 1, int(0.99 * len(took)))]


def _row(measured: dict[str, list[tuple[float, float]]], student: float) -> dict[str, Any]:
    alone, told, hung = (measured[name] for name in NAMES)
    speed = [math.log(with_[0] / without[0]) for with_, without in zip(told, alone, strict=True)]
    slow = [math.log(with_[1] / without[1]) for with_, without in zip(hung, alone, strict=True)]
    hung_speed = [math.log(with_[0] / without[0]) for with_, without in zip(hung, alone, strict=True)]
    return {
        "tokens_per_s": round(statistics.median(each[0] for each in alone), 1),
        "cost_share": round(1 - math.exp(statistics.mean(speed)), 4),
        "cost_share_upper": round(1 - math.exp(statistics.mean(speed) - _half(speed, student)), 4),
        "cost_share_hung_upper": round(1 - math.exp(statistics.mean(hung_speed) - _half(hung_speed, student)), 4),
        "p99_ratio_hung_collector": round(math.exp(statistics.mean(slow)), 4),
        "p99_ratio_hung_collector_upper": round(math.exp(statistics.mean(slow) + _half(slow, student)), 4),
    }


def _half(values: Sequence[float], student: float) -> float:
    """Half of the 95 % interval of a mean."""
    return student * statistics.stdev(values) / math.sqrt(len(values))


if __name__ == "__main__":
    main()
