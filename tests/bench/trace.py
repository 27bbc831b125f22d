"""A profiler's trace of one step of the mixture: which kernels run, how often, and for how long.

Each kernel's call is marked with its name; experts of a layer are one call, however many there are.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import wraps
from typing import Any

from torch.profiler import ProfilerActivity, profile, record_function

from bench.measure.checkpoints import build_models
from bench.report import RESULTS, write_result
from openmodel_kernels.interface import Kernels
from openmodel_runtime.config import EngineConfig
from openmodel_runtime.rank.messages import Start
from openmodel_runtime.rank.startup import start_rank
from openmodel_runtime.request import GenerateRequest, SamplingParams

_MODEL = "smollm2-moe-8x135m"
_STREAMS = 32
_PROMPT_TOKENS = 64


def main() -> None:
    """Traces, prints and writes the result."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    settings = EngineConfig(max_model_len=512, max_num_seqs=_STREAMS, threads=2)
    engine = start_rank(Start(str(build_models() / _MODEL), settings)).engine
    sampling = SamplingParams(temperature=0.0, max_tokens=64, ignore_eos=True)
    for stream in range(_STREAMS):
        prompt = tuple(range(1 + stream, 1 + stream + _PROMPT_TOKENS))
        engine.submit(GenerateRequest(request_id=stream, prompt=prompt, sampling=sampling))
    while len(engine.step().outputs) < _STREAMS:
        pass
    _mark(engine._runner._model.numerics.kernels)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        engine.step()
    found = [event for event in profiler.key_averages() if event.key.startswith("kernel: ")]
    rows = [
        {"kernel": event.key.removeprefix("kernel: "), "calls": event.count, "ms": event.cpu_time_total / 1000}
        for event in sorted(found, key=lambda event: -event.cpu_time_total)
    ]
    for row in rows:
        print(f"{row['kernel']:16} {row['calls']:4} calls {row['ms']:8.2f} ms")
    RESULTS.mkdir(exist_ok=True)
    profiler.export_chrome_trace(str(RESULTS / "trace-events.json"))
    print(write_result("trace", rows, model=_MODEL, streams=_STREAMS, layers=30, experts=8, experts_per_token=2))


def _mark(kernels: Kernels) -> None:
    """Has every kernel's call show in the trace."""
    for name in [name for name in dir(Kernels) if not name.startswith("_")]:
        kernel = getattr(kernels, name)
        if callable(kernel):
            setattr(kernels, name, _marked(name, kernel))


def _marked(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(kernel)
    def marked(*arguments: Any, **named: Any) -> Any:
        with record_function(f"kernel: {name}"):
            return kernel(*arguments, **named)

    return marked


if __name__ == "__main__":
    main()
