"""The scheduler under random arrivals: nothing lost, no limit broken, everything given back."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from openmodel_runtime.engine.scheduler import Scheduler, SchedulerLimits
from openmodel_runtime.engine.sequence import Batch, SampledToken
from openmodel_runtime.request import GenerateRequest, SamplingParams

EOS = 0
MAX_MODEL_LEN = 64
BLOCK = 8
BLOCKS = 25


def scheduler(**limits: Any) -> Scheduler:
    defaults: dict[str, Any] = {
        "max_model_len": MAX_MODEL_LEN,
        "max_num_seqs": 4,
        "max_num_batched_tokens": 16,
        "max_prompt_tokens": 16,
        "num_blocks": BLOCKS,
        "block_tokens": BLOCK,
    }
    return Scheduler(SchedulerLimits(**(defaults | limits)), frozenset({EOS}))


def request(request_id: int, prompt: int = 3, first: int = 1, **sampling: Any) -> GenerateRequest:
    return GenerateRequest(
        request_id=request_id,
        prompt=tuple(range(first, first + prompt)),
        sampling=SamplingParams(**({"max_tokens": 5} | sampling)),
    )


def sampled(batch: Batch, token: int = 7) -> list[SampledToken]:
    return [SampledToken(token) for item in batch.scheduled if item.samples]


def ids(batch: Batch) -> list[int]:
    return [item.sequence.request.request_id for item in batch.scheduled]


def run(subject: Scheduler) -> None:
    while not subject.idle:
        batch = subject.schedule()
        subject.update(batch, sampled(batch))


def test_a_prompt_longer_than_the_budget_is_computed_in_chunks() -> None:
    subject = scheduler(max_num_batched_tokens=4)
    subject.add(request(1, prompt=10))
    counts = []
    for _ in range(3):
        batch = subject.schedule()
        counts.append(batch.scheduled[0].num_tokens)
        subject.update(batch, sampled(batch))
    assert counts == [4, 4, 2]
    assert subject.schedule().scheduled[0].num_tokens == 1


def test_chunks_of_a_prompt_are_mixed_with_what_others_generate() -> None:
    subject = scheduler(max_prompt_tokens=4)
    subject.add(request(1))
    batch = subject.schedule()
    subject.update(batch, sampled(batch))
    subject.add(request(2, prompt=10, first=20))
    for expected in ([(1, 1), (2, 4)], [(1, 1), (2, 4)], [(1, 1), (2, 2)], [(1, 1), (2, 1)]):
        batch = subject.schedule()
        assert [(item.sequence.request.request_id, item.num_tokens) for item in batch.scheduled] == expected
        subject.update(batch, sampled(batch))


def test_the_models_own_end_token_ends_a_completion() -> None:
    subject = scheduler()
    subject.add(request(1))
    batch = subject.schedule()
    (output,) = subject.update(batch, sampled(batch, EOS))
    assert output.finish_reason == "stop"
    assert subject.idle
    assert subject.free_tokens == BLOCKS * BLOCK


def test_ignore_eos_and_min_tokens_let_it_go_on() -> None:
    subject = scheduler()
    subject.add(request(1, ignore_eos=True))
    subject.add(request(2, min_tokens=2))
    batch = subject.schedule()
    assert [output.finish_reason for output in subject.update(batch, sampled(batch, EOS))] == ["", ""]
    batch = subject.schedule()
    assert [output.finish_reason for output in subject.update(batch, sampled(batch, EOS))] == ["", "stop"]


def test_stop_tokens_of_the_request_end_it() -> None:
    subject = scheduler()
    subject.add(request(1, stop_token_ids=(9,), ignore_eos=True))
    batch = subject.schedule()
    assert [output.finish_reason for output in subject.update(batch, sampled(batch, 9))] == ["stop"]


def test_a_completion_ends_at_max_tokens_and_at_the_models_length() -> None:
    subject = scheduler(max_num_batched_tokens=128, max_prompt_tokens=128)
    subject.add(request(1, max_tokens=1))
    subject.add(request(2, prompt=MAX_MODEL_LEN - 1, max_tokens=50))
    batch = subject.schedule()
    assert [output.finish_reason for output in subject.update(batch, sampled(batch))] == ["length", "length"]


def test_a_step_that_failed_is_run_again_as_it_is() -> None:
    subject = scheduler()
    subject.add(request(1, prompt=10))
    first = subject.schedule()
    again = subject.schedule()
    assert [(item.num_tokens, item.sequence.num_computed) for item in again.scheduled] == [(10, 0)]
    assert again.scheduled[0].sequence.blocks == first.scheduled[0].sequence.blocks


def test_the_last_to_arrive_gives_way_and_comes_back() -> None:
    subject = scheduler(num_blocks=9, max_num_batched_tokens=256, max_prompt_tokens=256)
    subject.add(request(1, prompt=30, max_tokens=30))
    subject.add(request(2, prompt=30, first=100, max_tokens=30))
    seen = []
    while not subject.idle:
        batch = subject.schedule()
        seen.append(ids(batch))
        subject.update(batch, sampled(batch))
    assert subject.preemptions == 1
    assert [1] in seen
    assert seen[-1] == [2]
    assert subject.free_tokens == 9 * BLOCK


def test_what_was_put_off_keeps_its_tokens() -> None:
    subject = scheduler(num_blocks=9, max_num_batched_tokens=256, max_prompt_tokens=256, prefix_caching=False)
    subject.add(request(1, prompt=30, max_tokens=30))
    subject.add(request(2, prompt=30, first=100, max_tokens=30))
    received: dict[int, list[int]] = {1: [], 2: []}
    number = 10
    while not subject.idle:
        batch = subject.schedule()
        tokens = []
        for item in batch.scheduled:
            if item.samples:
                number += 1
                tokens.append(SampledToken(number))
                received[item.sequence.request.request_id].append(number)
                assert item.sequence.tokens[30:] == received[item.sequence.request.request_id][:-1]
        subject.update(batch, tokens)
    assert subject.preemptions
    assert [len(tokens) for tokens in received.values()] == [30, 30]


def test_a_beginning_that_is_cached_is_not_computed_again() -> None:
    subject = scheduler(max_num_batched_tokens=64, max_prompt_tokens=64)
    subject.add(request(1, prompt=20))
    run(subject)
    subject.add(request(2, prompt=30))
    batch = subject.schedule()
    assert batch.num_tokens == 30 - 16
    (output,) = subject.update(batch, sampled(batch))
    assert output.cached_prompt_tokens == 16
    run(subject)
    # The very same prompt: its last token is computed all the same, for what comes next.
    subject.add(request(3, prompt=16))
    assert subject.schedule().num_tokens == 8


def test_two_that_run_share_the_blocks_of_a_beginning() -> None:
    subject = scheduler(max_num_batched_tokens=64, max_prompt_tokens=64)
    subject.add(request(1, prompt=17, max_tokens=20))
    batch = subject.schedule()
    subject.update(batch, sampled(batch))
    subject.add(request(2, prompt=17))
    batch = subject.schedule()
    one, two = (item.sequence for item in batch.scheduled)
    assert one.blocks[:2] == two.blocks[:2]
    assert subject.free_tokens == (BLOCKS - 4) * BLOCK
    subject.update(batch, sampled(batch))
    assert subject.abort(1)
    assert subject.free_tokens == (BLOCKS - 3) * BLOCK


def test_other_beginnings_and_no_caching_hit_nothing() -> None:
    for caching, first in ((True, 2), (False, 1)):
        subject = scheduler(max_num_batched_tokens=64, max_prompt_tokens=64, prefix_caching=caching)
        subject.add(request(1, prompt=20))
        run(subject)
        subject.add(request(2, prompt=20, first=first))
        assert subject.schedule().num_tokens == 20


def test_abort_frees_at_once_in_prefill_and_in_decode() -> None:
    for steps in (1, 3):
        subject = scheduler()
        subject.add(request(1, prompt=20))
        for _ in range(steps):
            batch = subject.schedule()
            subject.update(batch, sampled(batch))
        assert subject.free_tokens < BLOCKS * BLOCK
        assert subject.abort(1)
        assert subject.free_tokens == BLOCKS * BLOCK
        assert subject.schedule().scheduled == ()


def test_abort_of_an_unknown_request_says_so() -> None:
    assert not scheduler().abort(9)


@given(
    arrivals=st.lists(
        st.tuples(
            st.integers(0, 20), st.integers(1, 60), st.integers(1, 40), st.integers(0, 30), st.sampled_from([1, 2, 90])
        ),
        min_size=1,
        max_size=30,
    ),
    budget=st.integers(1, 70),
    blocks=st.integers(8, 30),
    caching=st.booleans(),
)
def test_random_arrivals(
    arrivals: list[tuple[int, int, int, int, int]], budget: int, blocks: int, caching: bool
) -> None:
    """Every request gets exactly its tokens; no block is written by two; budgets hold; all cache comes back."""
    subject = scheduler(
        max_num_batched_tokens=budget,
        max_prompt_tokens=max(1, budget // 2),
        num_blocks=blocks,
        prefix_caching=caching,
        max_num_seqs=6,
    )
    todo = sorted((at, number) for number, (at, *_) in enumerate(arrivals))
    received = dict.fromkeys(range(len(arrivals)), 0)
    finished: set[int] = set()
    step = 0
    while todo or not subject.idle:
        while todo and todo[0][0] <= step:
            _, number = todo.pop(0)
            _, prompt, tokens, _, first = arrivals[number]
            subject.add(request(number, prompt=prompt, max_tokens=tokens, first=first))
        for number, (at, _, _, patience, _) in enumerate(arrivals):
            if step == at + patience and number % 3 == 0 and subject.abort(number):
                finished.add(number)
        batch = subject.schedule()
        assert batch.scheduled or subject.idle
        assert batch.num_tokens <= budget
        assert len(batch.scheduled) <= 6
        written: set[tuple[int, int]] = set()
        for item in batch.scheduled:
            sequence = item.sequence
            assert len(sequence.blocks) * BLOCK >= sequence.num_computed + item.num_tokens
            for position in range(sequence.num_computed, sequence.num_computed + item.num_tokens):
                place = (sequence.blocks[position // BLOCK], position % BLOCK)
                assert place not in written
                written.add(place)
        for output in subject.update(batch, sampled(batch)):
            assert output.request_id not in finished
            received[output.request_id] += 1
            if output.finish_reason:
                finished.add(output.request_id)
        step += 1
        assert step < 20000, "starved"
    for number, (_, prompt, tokens, _, _) in enumerate(arrivals):
        expected = min(tokens, MAX_MODEL_LEN - prompt)
        assert received[number] == expected or (number % 3 == 0 and received[number] < expected)
    assert subject.free_tokens == blocks * BLOCK
