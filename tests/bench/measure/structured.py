"""What structured output costs: SmolLM2 with and without a grammar, in turn in one process."""

from __future__ import annotations

import os
import statistics
import time

from bench.measure.checkpoints import build_models
from generation import generate
from openmodel_runtime.config import EngineConfig
from openmodel_runtime.engine.engine import Engine
from openmodel_runtime.engine.grammar import GrammarCompiler
from openmodel_runtime.front.structured_outputs import parse_structured_outputs
from openmodel_runtime.rank.messages import Start
from openmodel_runtime.rank.startup import grammar_compiler, start_rank
from openmodel_runtime.request import SamplingParams

_MODEL = "smollm2-135m-instruct"
_STREAMS = 32
_PROMPT = 32
_ROUNDS = 9
# Too many entries for any completion here: no grammar ends before its tokens do.
_SCHEMA = {
    "type": "array",
    "minItems": 200,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer"},
            "kind": {"enum": ["cat", "dog", "bird"]},
        },
        "required": ["name", "age", "kind"],
        "additionalProperties": False,
    },
}


def measure_structured(tokens: int) -> dict[str, float]:
    """Throughput with a JSON schema over throughput without, whole requests, `tokens` each."""
    start = Start(
        str(build_models() / _MODEL),
        EngineConfig(dtype="bfloat16", threads=len(os.sched_getaffinity(0)), max_model_len=2048, prefix_caching=False),
    )
    rank = start_rank(start)
    engine, compiler = rank.engine, grammar_compiler(start, rank.loaded)
    grammar = parse_structured_outputs("structured_outputs", {"json": _SCHEMA})
    rates: dict[str, list[float]] = {"": [], grammar: []}
    for _ in range(_ROUNDS):
        for wanted, measured in rates.items():
            measured.append(_rate(engine, compiler, wanted, tokens))
    plain, structured = (statistics.median(measured) for measured in rates.values())
    return {
        "throughput_ratio": structured / plain,
        "plain_tokens_per_s": plain,
        "structured_tokens_per_s": structured,
        "streams": _STREAMS,
        "tokens": tokens,
    }


def _rate(engine: Engine, compiler: GrammarCompiler, grammar: str, tokens: int) -> float:
    sampling = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=not grammar)
    prompts = [tuple(range(1000 * stream + 5, 1000 * stream + 5 + _PROMPT)) for stream in range(_STREAMS)]
    began = time.perf_counter()
    answers = generate(engine, prompts, sampling, lambda: compiler.compile(grammar) if grammar else None)
    seconds = time.perf_counter() - began
    made = sum(map(len, answers))
    if made != _STREAMS * tokens:
        raise RuntimeError(f"{made} tokens instead of {_STREAMS * tokens}: a grammar ended before them")
    return made / seconds
