"""Real weights give the same bits in any company: logprobs of a request alone, and in every kind of disorder.

The disorder is drawn by chance: arrivals between steps, budgets that cut prompts into chunks of any size, a cache so
small that sequences are put off and computed anew, prompts that share a beginning. A kernel that sums in an order that
depends on the batch must make the same test fail.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from msgspec import structs
from torch import Tensor

from openmodel_kernels.cpu import kernels as cpu_kernels
from openmodel_kernels.interface import PackedWeight
from openmodel_runtime.checkpoint.config_fields import ConfigFields, read_json
from openmodel_runtime.engine.engine import Engine
from openmodel_runtime.engine.loader import load_model
from openmodel_runtime.engine.model_runner import ModelRunner
from openmodel_runtime.engine.scheduler import Scheduler, SchedulerLimits
from openmodel_runtime.models.causal_lm import CausalLM
from openmodel_runtime.models.layers import Numerics
from openmodel_runtime.models.registry import read_model_config
from openmodel_runtime.request import GenerateRequest, SamplingParams, TokenOutput

VOCABULARY = 49152
BLOCK = 32
LONGEST = 256
NEW_TOKENS = 24
ROUNDS = 3
Answer = list[TokenOutput]


DENSE, MIXTURE = "smollm2-135m-instruct", "smollm2-moe-8x135m"


@pytest.fixture(scope="module")
def model(models: Path, request: pytest.FixtureRequest) -> CausalLM:
    folder = models / request.param
    kernels = cpu_kernels.CpuKernels()
    kernels.set_num_threads(2)
    config = read_model_config(ConfigFields(read_json(folder / "config.json")))
    return load_model(folder, config, Numerics(kernels, torch.bfloat16)).model


@dataclass
class Company:
    """An engine, and what became of its requests."""

    model: CausalLM
    blocks: int
    budget: int
    answers: dict[int, Answer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config, numerics = self.model.config, self.model.numerics
        limits = SchedulerLimits(
            max_model_len=LONGEST,
            max_num_seqs=16,
            max_num_batched_tokens=self.budget,
            max_prompt_tokens=self.budget,
            num_blocks=self.blocks,
            block_tokens=BLOCK,
        )
        caches = numerics.kernels.new_cache(
            config.num_layers, self.blocks, config.attention.kv_heads, config.attention.head_dim, numerics.dtype
        )
        runner = ModelRunner(self.model, caches, frozenset())
        self.engine = Engine(Scheduler(limits, frozenset()), runner, lambda: 0)

    def submit(self, request: GenerateRequest) -> None:
        self.answers[request.request_id] = []
        self.engine.submit(request)

    def step(self) -> None:
        for output in self.engine.step().outputs:
            self.answers[output.request_id].append(output)

    def finish(self) -> None:
        while not self.engine.scheduler.idle:
            self.step()


def requests(seed: int) -> list[GenerateRequest]:
    """Ten requests of any length, some with a common beginning; half of them sample."""
    chance = random.Random(seed)
    beginning = [chance.randrange(VOCABULARY) for _ in range(70)]
    made = []
    for number in range(10):
        own = [chance.randrange(VOCABULARY) for _ in range(chance.randint(1, 120))]
        prompt = beginning + own if number % 3 == 0 else own
        temperature = 0.0 if number % 2 else 0.9
        sampling = SamplingParams(
            temperature=temperature, seed=number, max_tokens=NEW_TOKENS, ignore_eos=True, logprobs=2, top_p=0.95
        )
        made.append(GenerateRequest(request_id=number, prompt=tuple(prompt), sampling=sampling))
    return made


def alone(model: CausalLM, request: GenerateRequest) -> Answer:
    company = Company(model, blocks=LONGEST // BLOCK, budget=LONGEST)
    company.submit(request)
    company.finish()
    return company.answers[request.request_id]


def in_disorder(model: CausalLM, wanted: list[GenerateRequest], seed: int) -> Company:
    chance = random.Random(seed)
    # Ten sequences of up to 7 blocks, and a cache that has room for two or three of them.
    company = Company(model, blocks=chance.randint(9, 14), budget=chance.choice([7, 33, 64, 200]))
    queue = chance.sample(wanted, len(wanted))
    while queue or not company.engine.scheduler.idle:
        while queue and chance.random() < 0.4:
            company.submit(queue.pop())
        company.step()
    return company


def without_prefix_hits(answer: Answer) -> Answer:
    """How much of a prompt was cached rightly depends on company."""
    return [structs.replace(output, cached_prompt_tokens=0) for output in answer]


def differences(model: CausalLM, rounds: int) -> tuple[int, int, int]:
    """Answers that are not, bit for bit, those given alone; sequences put off; prompts that hit the prefix cache."""
    wanted = requests(1)
    solo = {request.request_id: without_prefix_hits(alone(model, request)) for request in wanted}
    different = put_off = hits = 0
    for seed in range(rounds):
        company = in_disorder(model, wanted, seed)
        different += sum(without_prefix_hits(company.answers[number]) != answer for number, answer in solo.items())
        put_off += company.engine.scheduler.preemptions
        hits += sum(answer[0].cached_prompt_tokens > 0 for answer in company.answers.values())
    return different, put_off, hits


@pytest.mark.timeout(600)
@pytest.mark.parametrize("model", [DENSE, MIXTURE], indirect=True)
def test_logprobs_are_those_given_alone(model: CausalLM) -> None:
    different, put_off, hits = differences(model, ROUNDS)
    assert put_off, "no sequence was put off: the test has lost its point"
    assert hits, "no prompt hit the prefix cache: the test has lost its point"
    assert different == 0


@pytest.mark.timeout(600)
@pytest.mark.parametrize("model", [DENSE], indirect=True)
def test_a_kernel_whose_order_depends_on_the_batch_is_noticed(model: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rows are summed from the end of K, as a kernel that splits K when there is little else to do would."""
    linear = cpu_kernels.CpuKernels.linear
    reversed_weights: dict[int, PackedWeight] = {}

    def by_batch(
        self: cpu_kernels.CpuKernels, x_TD: Tensor, weight: PackedWeight, residual_TN: Tensor | None = None
    ) -> Tensor:
        if residual_TN is None or x_TD.shape[0] > 4:
            return linear(self, x_TD, weight, residual_TN)
        if id(weight) not in reversed_weights:
            rows = torch.arange(weight.rows)  # type: ignore[attr-defined]
            reversed_weights[id(weight)] = self.pack(self.rows(weight, rows).flip(1).contiguous())
        return linear(self, x_TD.flip(1).contiguous(), reversed_weights[id(weight)], residual_TN)

    monkeypatch.setattr(cpu_kernels.CpuKernels, "linear", by_batch)
    different, _, _ = differences(model, 1)
    assert different > 0
