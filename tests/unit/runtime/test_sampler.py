from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from openmodel_kernels.reference.kernels import ReferenceKernels
from openmodel_runtime.engine.grammar import GrammarMatcher, Mask
from openmodel_runtime.engine.masks import in_rows
from openmodel_runtime.engine.sampler import sample
from openmodel_runtime.engine.sequence import SampledToken, Sequence
from openmodel_runtime.request import GenerateRequest, SamplingParams

LOGITS = torch.tensor([0.0, 3.0, 2.0, 1.0])
EOS = frozenset({1})


def sequence(prompt: tuple[int, ...] = (0,), completion: tuple[int, ...] = (), **params: Any) -> Sequence:
    sampling = SamplingParams(**({"seed": 1} | params))
    one = Sequence(GenerateRequest(request_id=1, prompt=prompt, sampling=sampling), 10_000, 0)
    one.tokens.extend(completion)
    return one


def choose(logits: Tensor = LOGITS, mask: Mask | None = None, **of: Any) -> SampledToken:
    allowed_SO = in_rows([mask], logits.shape[0])
    likeliest = ReferenceKernels().likeliest(logits[None], allowed_SO)
    one = sequence(**of)
    one.matcher = None if mask is None else cast(GrammarMatcher, mask)
    return sample(logits[None], likeliest, [one], allowed_SO, EOS)[0]


def draws(count: int = 200, logits: Tensor = LOGITS, **params: Any) -> set[int]:
    return {choose(logits, completion=(0,) * position, **params).token for position in range(count)}


def test_greedy_takes_the_best() -> None:
    assert choose(temperature=0.0) == SampledToken(1)


def test_a_mask_says_what_may_come() -> None:
    odd, last = (np.array([bits], np.uint8) for bits in (0b1010, 0b1000))
    assert choose(temperature=0.0, mask=odd).token == 1
    assert choose(temperature=0.0, mask=last).token == 3
    assert {choose(mask=odd, seed=seed).token for seed in range(200)} == {1, 3}
    assert {choose(mask=last, seed=seed, top_k=2, min_p=0.1).token for seed in range(50)} == {3}
    # What is told of the token is the model's own, whatever may come.
    assert choose(temperature=0.0, mask=last, logprobs=0).logprob == choose(logprobs=0, mask=last).logprob


def test_masks_of_some_rows_let_the_others_be() -> None:
    rows = in_rows([None, np.array([0b1, 0b10], np.uint8)], 21)
    assert rows is not None
    # What a model has rows for and its tokenizer no tokens never comes.
    assert rows.tolist() == [[0xFF, 0xFF, 0xFF], [0b1, 0b10, 0]]
    assert in_rows([None, None], 21) is None


def test_end_tokens_wait_for_min_tokens() -> None:
    assert choose(temperature=0.0, min_tokens=1).token == 2
    assert choose(temperature=0.0, min_tokens=1, stop_token_ids=(2,)).token == 3
    assert choose(temperature=0.0, min_tokens=1, ignore_eos=True).token == 1
    assert choose(temperature=0.0, min_tokens=1, completion=(3,)).token == 1


def test_top_k_top_p_and_min_p_cut_the_tail() -> None:
    assert draws(top_k=2) == {1, 2}
    assert draws(top_p=0.7) == {1, 2}
    assert draws(min_p=0.5) == {1}
    assert draws(top_p=1e-9) == {1}
    assert draws(top_k=3, top_p=0.95) == {1, 2, 3}
    assert draws() == {0, 1, 2, 3}


def test_a_flat_distribution_needs_more_than_the_likeliest() -> None:
    assert max(draws(400, torch.zeros(5000), top_p=0.999)) > 3000


def test_seed_and_position_decide() -> None:
    first = [choose(completion=(0,) * position, seed=7) for position in range(50)]
    assert first == [choose(completion=(0,) * position, seed=7) for position in range(50)]
    assert first != [choose(completion=(0,) * position, seed=8) for position in range(50)]


def test_a_row_is_chosen_as_if_it_were_alone() -> None:
    logits = torch.randn(6, 2000, generator=torch.Generator().manual_seed(3))
    kinds: list[dict[str, Any]] = [
        {"temperature": 0.0},
        {"temperature": 0.8, "top_p": 0.9},
        {"temperature": 1.5, "top_k": 7, "logprobs": 3},
        {"temperature": 0.0, "repetition_penalty": 1.3, "logprobs": 0},
        {"min_p": 0.1, "presence_penalty": 0.5, "frequency_penalty": -0.2},
        {},
    ]
    sequences = [sequence(completion=(4, 4, 9), **kind) for kind in kinds]
    together = sample(logits, logits.argmax(-1).tolist(), sequences, None, EOS)
    assert together == [choose(row, completion=(4, 4, 9), **kind) for row, kind in zip(logits, kinds, strict=True)]


def test_frequencies_follow_the_probabilities() -> None:
    counts = torch.zeros(4)
    for position in range(4000):
        counts[choose(completion=(0,) * position, seed=3).token] += 1
    assert torch.allclose(counts / 4000, torch.softmax(LOGITS, 0), atol=0.03)


def test_penalties() -> None:
    # Presence: once, for tokens of the completion alone.
    assert choose(temperature=0.0, prompt=(1,), presence_penalty=1.5).token == 1
    assert choose(temperature=0.0, completion=(1, 1), presence_penalty=0.9).token == 1
    assert choose(temperature=0.0, completion=(1,), presence_penalty=1.5).token == 2
    # Frequency: for each time.
    assert choose(temperature=0.0, completion=(1,), frequency_penalty=0.6).token == 1
    assert choose(temperature=0.0, completion=(1, 1), frequency_penalty=0.6).token == 2
    # Repetition: divides what is positive and multiplies what is negative, prompt included.
    assert choose(temperature=0.0, prompt=(1,), repetition_penalty=2.0).token == 2
    assert choose(LOGITS - 4, temperature=0.0, prompt=(1,), repetition_penalty=3.0).token == 2


def test_logprobs_are_the_models_own() -> None:
    expected = torch.log_softmax(LOGITS, 0).tolist()
    choice = choose(temperature=0.0, logprobs=2, completion=(1,), presence_penalty=5.0)
    assert choice.token == 2
    assert choice.logprob == pytest.approx(expected[2])
    assert [top.token for top in choice.top_logprobs] == [1, 2]
    assert [top.logprob for top in choice.top_logprobs] == pytest.approx(expected[1:3])
    assert choose(temperature=0.0, logprobs=0).top_logprobs == ()
