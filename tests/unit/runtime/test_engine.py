"""The engine on tiny random models: transformers' logits, and the same tokens however the work is cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints import write_tiny_llama, write_tiny_mixtral
from generation import generate
from openmodel_runtime.config import EngineConfig
from openmodel_runtime.engine.engine import Engine
from openmodel_runtime.rank.messages import Start
from openmodel_runtime.rank.startup import build_engine
from openmodel_runtime.request import GenerateRequest, SamplingParams

PROMPTS = [tuple(range(3, 3 + length)) for length in (1, 5, 17, 40)]
GREEDY = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)
Write = Callable[..., Path]


@pytest.fixture(params=[write_tiny_llama, write_tiny_mixtral], ids=["llama", "mixtral"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    write: Write = request.param
    return write(tmp_path / "model", seed=11, shards=2)


def engine(folder: Path, **settings: Any) -> Engine:
    return build_engine(Start(str(folder), EngineConfig(dtype="float32", **settings)))[0]


def test_greedy_tokens_are_transformers(checkpoint: Path) -> None:
    from transformers import AutoModelForCausalLM

    theirs: Any = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    expected = [
        theirs.generate(torch.tensor([prompt]), max_new_tokens=12, min_new_tokens=12, do_sample=False, use_cache=True)[
            0, len(prompt) :
        ].tolist()
        for prompt in PROMPTS
    ]
    assert (
        generate(engine(checkpoint), PROMPTS, SamplingParams(temperature=0.0, max_tokens=12, min_tokens=12)) == expected
    )


def test_batches_and_chunks_do_not_change_the_tokens(checkpoint: Path) -> None:
    alone = [generate(engine(checkpoint), [prompt], GREEDY)[0] for prompt in PROMPTS]
    assert generate(engine(checkpoint), PROMPTS, GREEDY) == alone
    assert generate(engine(checkpoint, max_num_batched_tokens=4, max_num_seqs=3), PROMPTS, GREEDY) == alone


def test_seeded_sampling_does_not_depend_on_company(checkpoint: Path) -> None:
    sampling = SamplingParams(seed=5, temperature=0.8, top_p=0.9, max_tokens=12, ignore_eos=True)
    alone = [generate(engine(checkpoint), [prompt], sampling)[0] for prompt in PROMPTS]
    assert generate(engine(checkpoint), PROMPTS, sampling) == alone


def test_an_aborted_request_frees_its_cache(checkpoint: Path) -> None:
    subject = engine(checkpoint)
    free = subject.scheduler.free_tokens
    subject.submit(GenerateRequest(request_id=1, prompt=PROMPTS[2], sampling=GREEDY))
    subject.step()
    assert subject.scheduler.free_tokens < free
    subject.abort(1)
    assert subject.scheduler.idle
    assert subject.scheduler.free_tokens == free
    assert subject.step() == []
