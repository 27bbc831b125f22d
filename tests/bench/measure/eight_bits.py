"""What weights in eight bits cost and bring: SmolLM2 in bfloat16 and in int8, in turn in one process.

The text is this repository's own documentation: prose and tables that the model has not seen.
"""

from __future__ import annotations

import os
import statistics
import time

import torch
from tokenizers import Tokenizer

from bench.measure.checkpoints import build_models
from bench.peers.catalog import ROOT
from families.ours import Sequences, load
from openmodel_kernels.cpu.kernels import CpuKernels
from openmodel_runtime.models.causal_lm import CausalLM

_MODEL = "smollm2-135m-instruct"
_WINDOW = 256
_PROMPT = 64
_ROUNDS = 5


def measure_eight_bits(*, text_tokens: int, steps: int) -> dict[str, float]:
    """Ratios of int8 to bfloat16: speed of decoding one stream, and perplexity."""
    folder = build_models() / _MODEL
    text = "\n\n".join(path.read_text() for path in sorted((ROOT / "docs").rglob("*.md")))
    tokens = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    kernels = CpuKernels()
    kernels.set_num_threads(len(os.sched_getaffinity(0)))
    exact, rounded = (load(folder, kernels, torch.bfloat16, int8=int8) for int8 in (False, True))
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(_ROUNDS):
        for int8, model in ((False, exact), (True, rounded)):
            seconds[int8].append(_step_seconds(model, tokens, steps))
    before, after = (_perplexity(model, tokens[:text_tokens]) for model in (exact, rounded))
    return {
        "decode_ratio": statistics.median(seconds[False]) / statistics.median(seconds[True]),
        "bfloat16_step_ms": 1000 * statistics.median(seconds[False]),
        "int8_step_ms": 1000 * statistics.median(seconds[True]),
        "perplexity_ratio": after / before,
        "bfloat16_perplexity": before,
        "text_tokens": text_tokens,
    }


def _step_seconds(model: CausalLM, tokens: list[int], steps: int) -> float:
    """The median step of one stream, tokens given."""
    sequence, times = Sequences(model, 1), []
    sequence.run([tokens[:_PROMPT]])
    for token in tokens[_PROMPT : _PROMPT + steps]:
        began = time.perf_counter()
        sequence.run([[token]])
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _perplexity(model: CausalLM, tokens: list[int]) -> float:
    """e to the mean surprise of a token, each seen after those of its window before it."""
    surprise, count = 0.0, 0
    for start in range(0, len(tokens) - 1, _WINDOW):
        window = tokens[start : start + _WINDOW + 1]
        logits = Sequences(model, 1).run([window[:-1]])[0]
        surprise += float(torch.nn.functional.cross_entropy(logits, torch.tensor(window[1:]), reduction="sum"))
        count += len(window) - 1
    return float(torch.tensor(surprise / count).exp())
