"""Greedy tokens on real weights equal Hugging Face transformers' in float32.

All prompts run at once in one engine, as they would for as many callers. A difference counts unless transformers' own
two best logits are within 1e-4 there: then another order of sums may rightly choose the other token.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from checkpoints import checkpoint_sha256
from generation import generate
from openmodel_runtime.config import EngineConfig
from openmodel_runtime.front.parse import InferRequest
from openmodel_runtime.front.sampling_parameters import parse_sampling
from openmodel_runtime.front.text import TextModel
from openmodel_runtime.rank.messages import Start
from openmodel_runtime.rank.startup import build_engine
from openmodel_runtime.request import SamplingParams

FOLDER = Path(__file__).resolve().parent
NEAR_TIE = 1e-4


@pytest.mark.timeout(900)
@pytest.mark.parametrize("stem", ["smollm2", "smollm2_moe"])
def test_greedy_tokens_equal_transformers(models: Path, stem: str) -> None:
    golden = json.loads((FOLDER / f"{stem}.json").read_text(encoding="utf-8"))
    checkpoint = models / golden["model"]
    assert checkpoint_sha256(checkpoint) == golden["checkpoint_sha256"], "the model is not the golden file's"
    prompts = golden["prompts"]
    text = TextModel(checkpoint)
    for prompt in prompts:
        assert list(text.encode(_request(prompt))) == prompt["prompt_token_ids"], prompt["name"]
    answers = _generate(checkpoint, [tuple(prompt["prompt_token_ids"]) for prompt in prompts])
    faults = [fault for prompt, answer in zip(prompts, answers, strict=True) if (fault := _difference(prompt, answer))]
    assert not faults


def _request(prompt: dict[str, Any]) -> InferRequest:
    return InferRequest(
        text=prompt.get("text"),
        messages=prompt.get("messages"),
        sampling=parse_sampling({}, {}),
        stream=False,
        echo_prompt=False,
        outputs=("text_output",),
        timeout_seconds=None,
    )


def _generate(checkpoint: Path, prompts: list[tuple[int, ...]]) -> list[list[int]]:
    settings = EngineConfig(dtype="float32", max_model_len=1024, threads=2)
    engine, _ = build_engine(Start(str(checkpoint), settings))
    sampling = SamplingParams(temperature=0.0, max_tokens=128, ignore_eos=True)
    return generate(engine, prompts, sampling)


def _difference(prompt: dict[str, Any], answer: list[int]) -> str:
    """The first difference that counts, in words; "" when there is none."""
    assert len(answer) == len(prompt["token_ids"])
    for position, (ours, theirs) in enumerate(zip(answer, prompt["token_ids"], strict=True)):
        if ours != theirs:
            gap = prompt["top2_gap"][position]
            return "" if gap < NEAR_TIE else f"{prompt['name']}: token {position} is {ours}, not {theirs} (gap {gap})"
    return ""
