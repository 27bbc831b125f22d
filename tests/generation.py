"""Generating with an engine in this process: all prompts at once, as for as many callers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from openmodel_runtime.engine.engine import Engine
from openmodel_runtime.engine.grammar import GrammarMatcher
from openmodel_runtime.request import GenerateRequest, SamplingParams


def generate(
    engine: Engine,
    prompts: Sequence[tuple[int, ...]],
    sampling: SamplingParams,
    matcher: Callable[[], GrammarMatcher | None] = lambda: None,
) -> list[list[int]]:
    """The tokens of each prompt's completion, each under a matcher of its own."""
    for number, prompt in enumerate(prompts):
        engine.submit(GenerateRequest(request_id=number, prompt=prompt, sampling=sampling), matcher())
    answers: list[list[int]] = [[] for _ in prompts]
    while not engine.scheduler.idle:
        for output in engine.step().outputs:
            answers[output.request_id].append(output.token)
    return answers
