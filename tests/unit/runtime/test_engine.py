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
from openmodel_runtime.engine.engine import Engine, StepOutcome
from openmodel_runtime.engine.model_runner import ModelRunner
from openmodel_runtime.engine.sequence import Batch, SampledToken
from openmodel_runtime.errors import DoesNotFit, InvalidSetting
from openmodel_runtime.rank import startup
from openmodel_runtime.rank.messages import Start
from openmodel_runtime.rank.startup import start_rank
from openmodel_runtime.request import GenerateRequest, SamplingParams

PROMPTS = [tuple(range(3, 3 + length)) for length in (1, 5, 17, 40)]
GREEDY = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)
Write = Callable[..., Path]


@pytest.fixture(params=[write_tiny_llama, write_tiny_mixtral], ids=["llama", "mixtral"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    write: Write = request.param
    return write(tmp_path / "model", seed=11, shards=2)


def engine(folder: Path, **settings: Any) -> Engine:
    return start_rank(Start(str(folder), EngineConfig(dtype="float32", **settings))).engine


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
    assert subject.step() == StepOutcome([])


def test_kernels_can_be_checked_at_start(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine(checkpoint, check_kernels=True)
    monkeypatch.setattr(startup, "variant_operations", lambda *_: ["linear"])
    with pytest.raises(InvalidSetting, match="linear give a row other bits in other company"):
        engine(checkpoint, check_kernels=True)


def test_out_of_memory_ends_the_last_request_and_no_other(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = generate(engine(checkpoint), [PROMPTS[1]], GREEDY)
    subject = engine(checkpoint)
    run = ModelRunner._run

    def run_small_batches(self: ModelRunner, batch: Batch, exchange: None) -> list[SampledToken]:
        if batch.num_tokens > 20:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return run(self, batch, exchange)

    monkeypatch.setattr(ModelRunner, "_run", run_small_batches)
    free = subject.scheduler.free_tokens
    for number, prompt in ((1, PROMPTS[1]), (2, PROMPTS[3])):
        subject.submit(GenerateRequest(request_id=number, prompt=prompt, sampling=GREEDY))
    outcome = subject.step()
    assert [failure.request_id for failure in outcome.failed] == [2]
    tokens: list[int] = []
    while not subject.scheduler.idle:
        tokens.extend(output.token for output in subject.step().outputs)
    assert [tokens] == alone
    assert subject.scheduler.free_tokens == free


def test_another_fault_of_a_step_is_not_taken_for_it(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: ModelRunner, batch: Batch, exchange: None) -> list[SampledToken]:
        raise RuntimeError("a kernel failed")

    monkeypatch.setattr(ModelRunner, "_run", fail)
    with pytest.raises(RuntimeError, match="a kernel failed"):
        engine(checkpoint)


def test_three_times_the_cache_completes_and_all_comes_back(checkpoint: Path) -> None:
    subject = engine(checkpoint, max_model_len=64, max_num_seqs=4)
    free = subject.scheduler.free_tokens
    assert free == 4 * 64
    prompts = [tuple(range(3 + number, 43 + number)) for number in range(20)]
    sampling = SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True)
    assert sum(len(prompt) + 20 for prompt in prompts) > 3 * free
    assert [len(answer) for answer in generate(subject, prompts, sampling)] == [20] * 20
    assert subject.scheduler.free_tokens == free


def test_a_model_whose_first_step_does_not_fit_is_not_served(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: ModelRunner, batch: Batch, exchange: None) -> list[SampledToken]:
        raise MemoryError

    monkeypatch.setattr(ModelRunner, "_run", fail)
    with pytest.raises(DoesNotFit, match="raise the memory limit"):
        engine(checkpoint)


def test_an_idle_engine_touches_each_unused_block_once_and_no_other(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = engine(checkpoint, max_model_len=64, max_num_seqs=4)
    blocks = subject.scheduler.unused_blocks
    touched: list[int] = []
    monkeypatch.setattr(ModelRunner, "touch", lambda _self, block: touched.append(block))
    assert subject.warm_cache()
    generate(subject, [PROMPTS[3]], GREEDY)
    while subject.warm_cache():
        pass
    # The first block served the warm-up; the second was touched before the prompt took it and the next.
    assert blocks == range(1, 8)
    assert touched == [1, *subject.scheduler.unused_blocks]


def test_an_engine_with_requests_touches_nothing(checkpoint: Path) -> None:
    subject = engine(checkpoint, max_model_len=64, max_num_seqs=4)
    subject.submit(GenerateRequest(request_id=1, prompt=(1,), sampling=GREEDY))
    assert not subject.warm_cache()


def test_touching_a_block_leaves_the_others_as_they_are(checkpoint: Path) -> None:
    cold, warm = (engine(checkpoint, max_model_len=64, max_num_seqs=4) for _ in range(2))
    answers = []
    for prompt in PROMPTS:
        warm.warm_cache()
        answers.append(generate(warm, [prompt], GREEDY)[0])
    assert answers == [generate(cold, [prompt], GREEDY)[0] for prompt in PROMPTS]
