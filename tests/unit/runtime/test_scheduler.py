"""The scheduler under random arrivals: nothing lost, no limit broken, everything given back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openmodel_runtime.engine.scheduler import Scheduler
from openmodel_runtime.engine.sequence import Batch
from openmodel_runtime.request import GenerateRequest, SamplingParams

EOS = 0
MAX_MODEL_LEN = 64
KV_TOKENS = 200


def scheduler(*, max_num_seqs: int = 4, max_num_batched_tokens: int = 16) -> Scheduler:
    return Scheduler(
        max_model_len=MAX_MODEL_LEN,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        kv_cache_tokens=KV_TOKENS,
        eos_token_ids=frozenset({EOS}),
    )


def request(request_id: int, prompt: int = 3, **sampling: object) -> GenerateRequest:
    return GenerateRequest(
        request_id=request_id,
        prompt=tuple(range(1, prompt + 1)),
        sampling=SamplingParams(**{"max_tokens": 5, **sampling}),  # type: ignore[arg-type]
    )


def sampled(batch: Batch, token: int = 7) -> list[int]:
    return [token for item in batch.scheduled if item.samples]


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


def test_decodes_go_before_new_prompts() -> None:
    subject = scheduler()
    subject.add(request(1))
    batch = subject.schedule()
    subject.update(batch, sampled(batch))
    subject.add(request(2))
    assert [item.sequence.request.request_id for item in subject.schedule().scheduled] == [1, 2]


def test_the_models_own_end_token_ends_a_completion() -> None:
    subject = scheduler()
    subject.add(request(1))
    batch = subject.schedule()
    (output,) = subject.update(batch, [EOS])
    assert output.finish_reason == "stop"
    assert subject.idle
    assert subject.free_tokens == KV_TOKENS


def test_ignore_eos_and_min_tokens_let_it_go_on() -> None:
    subject = scheduler()
    subject.add(request(1, ignore_eos=True))
    subject.add(request(2, min_tokens=2))
    batch = subject.schedule()
    assert [output.finish_reason for output in subject.update(batch, [EOS, EOS])] == ["", ""]
    batch = subject.schedule()
    assert [output.finish_reason for output in subject.update(batch, [EOS, EOS])] == ["", "stop"]


def test_a_completion_ends_at_max_tokens_and_at_the_models_length() -> None:
    subject = scheduler(max_num_batched_tokens=64)
    subject.add(request(1, max_tokens=1))
    subject.add(request(2, prompt=MAX_MODEL_LEN - 1, max_tokens=50))
    batch = subject.schedule()
    assert [output.finish_reason for output in subject.update(batch, [7, 7])][:1] == ["length"]
    while not subject.idle:
        batch = subject.schedule()
        outputs = subject.update(batch, sampled(batch))
    assert outputs[-1].finish_reason == "length"


def test_a_request_waits_until_its_cache_is_free() -> None:
    subject = scheduler(max_num_seqs=8, max_num_batched_tokens=256)
    for number in range(5):
        subject.add(request(number, prompt=40, max_tokens=20))
    subject.schedule()
    assert (subject.num_running, subject.num_waiting) == (3, 2)
    assert subject.abort(0)
    subject.schedule()
    assert (subject.num_running, subject.num_waiting) == (3, 1)


def test_abort_of_an_unknown_request_says_so() -> None:
    assert not scheduler().abort(9)


@given(
    arrivals=st.lists(
        st.tuples(st.integers(0, 20), st.integers(1, 60), st.integers(1, 12), st.booleans()), min_size=1, max_size=30
    ),
    budget=st.integers(1, 24),
)
def test_random_arrivals(arrivals: list[tuple[int, int, int, bool]], budget: int) -> None:
    """Every request gets exactly its tokens, in order; budgets hold at every step; all cache comes back."""
    subject = scheduler(max_num_batched_tokens=budget)
    todo = sorted((at, number, prompt, tokens, abort) for number, (at, prompt, tokens, abort) in enumerate(arrivals))
    received = dict.fromkeys(range(len(arrivals)), 0)
    finished: set[int] = set()
    aborted: set[int] = set()
    step = 0
    while todo or not subject.idle:
        while todo and todo[0][0] <= step:
            _, number, prompt, tokens, abort = todo.pop(0)
            subject.add(request(number, prompt=prompt, max_tokens=tokens))
            if abort:
                subject.abort(number)
                aborted.add(number)
        batch = subject.schedule()
        assert sum(item.num_tokens for item in batch.scheduled) <= budget
        assert len(batch.scheduled) <= 4
        assert subject.free_tokens >= 0
        for output in subject.update(batch, sampled(batch)):
            assert output.request_id not in finished | aborted
            received[output.request_id] += 1
            if output.finish_reason:
                finished.add(output.request_id)
        step += 1
        assert step < 5000, "starved"
    for number, (_, prompt, tokens, _) in enumerate(arrivals):
        expected = 0 if number in aborted else min(tokens, MAX_MODEL_LEN - prompt)
        assert received[number] == expected
    assert subject.free_tokens == KV_TOKENS
