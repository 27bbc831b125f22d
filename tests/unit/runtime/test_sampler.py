from __future__ import annotations

import torch

from openmodel_runtime.engine.sampler import sample_token
from openmodel_runtime.request import SamplingParams

LOGITS = torch.tensor([0.0, 3.0, 2.0, 1.0])


def draws(params: SamplingParams, count: int = 200) -> set[int]:
    return {sample_token(LOGITS, params, position, None) for position in range(count)}


def test_greedy_takes_the_best() -> None:
    assert sample_token(LOGITS, SamplingParams(temperature=0.0), 0, None) == 1


def test_forbidden_tokens_are_never_taken() -> None:
    assert sample_token(LOGITS, SamplingParams(temperature=0.0), 0, torch.tensor([1])) == 2


def test_top_k_top_p_and_min_p_cut_the_tail() -> None:
    assert draws(SamplingParams(seed=1, top_k=2)) == {1, 2}
    assert draws(SamplingParams(seed=1, top_p=0.7)) == {1, 2}
    assert draws(SamplingParams(seed=1, min_p=0.5)) == {1}
    assert draws(SamplingParams(seed=1, top_p=1e-9)) == {1}
    assert draws(SamplingParams(seed=1)) == {0, 1, 2, 3}


def test_seed_and_position_decide() -> None:
    params = SamplingParams(seed=7)
    first = [sample_token(LOGITS, params, position, None) for position in range(50)]
    assert first == [sample_token(LOGITS, params, position, None) for position in range(50)]
    other = [sample_token(LOGITS, SamplingParams(seed=8), position, None) for position in range(50)]
    assert first != other


def test_frequencies_follow_the_probabilities() -> None:
    params = SamplingParams(seed=3)
    counts = torch.zeros(4)
    for position in range(4000):
        counts[sample_token(LOGITS, params, position, None)] += 1
    assert torch.allclose(counts / 4000, torch.softmax(LOGITS, 0), atol=0.03)
