"""Greedy tokens on real weights equal Hugging Face transformers' in float32.

All prompts run at once in one engine, as they would for as many callers. A difference counts unless transformers' own
two best logits are within 1e-4 there: then another order of sums may rightly choose the other token.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from checkpoints import checkpoint_sha256
from generation import generate
from openmodel_runtime.config import EngineConfig
from openmodel_runtime.rank.messages import Start
from openmodel_runtime.rank.startup import start_rank
from openmodel_runtime.request import SamplingParams
from openmodel_runtime.text.conversation import Conversation
from openmodel_runtime.text.text_model import open_text_model

FOLDER = Path(__file__).resolve().parent
NEAR_TIE = 1e-4


@pytest.mark.timeout(900)
@pytest.mark.parametrize("stem", ["smollm2", "smollm2_moe"])
def test_greedy_tokens_equal_transformers(models: Path, stem: str) -> None:
    golden = json.loads((FOLDER / f"{stem}.json").read_text(encoding="utf-8"))
    checkpoint = models / golden["model"]
    assert checkpoint_sha256(checkpoint) == golden["checkpoint_sha256"], "the model is not the golden file's"
    prompts = golden["prompts"]
    encoded = asyncio.run(_encode(checkpoint, prompts))
    for prompt, ids in zip(prompts, encoded, strict=True):
        assert list(ids) == prompt["prompt_token_ids"], prompt["name"]
    answers = _generate(checkpoint, [tuple(prompt["prompt_token_ids"]) for prompt in prompts])
    faults = [fault for prompt, answer in zip(prompts, answers, strict=True) if (fault := _difference(prompt, answer))]
    assert not faults


async def _encode(checkpoint: Path, prompts: list[dict[str, Any]]) -> list[tuple[int, ...]]:
    text = open_text_model(checkpoint)
    try:
        return [
            await text.encode(Conversation(messages=prompt["messages"]) if "messages" in prompt else prompt["text"])
            for prompt in prompts
        ]
    finally:
        await text.close()


def _generate(checkpoint: Path, prompts: list[tuple[int, ...]]) -> list[list[int]]:
    settings = EngineConfig(dtype="float32", max_model_len=1024, threads=2)
    engine = start_rank(Start(str(checkpoint), settings)).engine
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
