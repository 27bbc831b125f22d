"""Several completions of one prompt, and what is told of their tokens."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import grpc
import pytest

from contract.infer_requests import EVERLASTING, GREEDY, PROMPT, answers, final, request, streamed, text_of, values
from contract.runtime_server import RuntimeServer, until
from openmodel_protos import grpc_service_pb2 as pb
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc

Stub = pb_grpc.GRPCInferenceServiceStub
HOT: Mapping[str, Any] = {"temperature": 1.5, "max_tokens": 30, "ignore_eos": True, "seed": 2**64 - 2}
SEEDS = (2**64 - 2, 2**64 - 1, 0)
TELL: Mapping[str, Any] = dict.fromkeys(("return_finish_reason", "return_num_output_tokens"), True)
TELL_LOGPROBS: Mapping[str, Any] = {**TELL, "return_logprobs": True, "return_cumulative_logprob": True}


def alone(stub: Stub, seed: int) -> str:
    return text_of(stub.ModelInfer(request(sampling={**HOT, "seed": seed})))


def test_each_completion_is_what_its_seed_gives_alone(stub: Stub) -> None:
    response = stub.ModelInfer(request(sampling={**HOT, "n": 3}, return_num_input_tokens=True, **TELL))
    assert values(response, "text_output") == [alone(stub, seed) for seed in SEEDS]
    assert values(response, "finish_reason") == ["length"] * 3
    assert values(response, "num_output_tokens") == [30] * 3
    assert len(values(response, "num_input_tokens")) == 1


def test_a_stream_has_the_new_text_of_each_completion(stub: Stub) -> None:
    whole = [alone(stub, seed) for seed in SEEDS]
    # They end at different places.
    stop = whole[1][8:12]
    expected = [text[: text.index(stop)] if stop in text else text for text in whole]
    messages = list(stub.ModelStreamInfer(iter([streamed(sampling={**HOT, "n": 3, "stop": stop})])))
    responses = [message.infer_response for message in messages]
    columns = list(zip(*(values(each, "text_output") for each in responses), strict=True))
    assert ["".join(column) for column in columns] == expected
    assert [final(message) for message in messages] == [False] * (len(messages) - 1) + [True]
    for index, reason in enumerate(["length" if stop not in text else "stop" for text in whole]):
        reasons = [values(each, "finish_reason")[index] for each in responses]
        assert (reasons[-1], set(reasons) <= {"", reason}) == (reason, True)
        # Once it has ended nothing comes.
        ended = reasons.index(reason)
        assert not any(columns[index][ended + 1 :])
        counts = [values(each, "num_output_tokens")[index] for each in responses]
        assert sum(counts[ended + 1 :]) == 0
        assert reason == "stop" or sum(counts) == 30


def test_the_prompt_is_repeated_before_each(stub: Stub) -> None:
    response = stub.ModelInfer(request(sampling={**GREEDY, "n": 2}, exclude_input_in_output=False))
    assert values(response, "text_output") == [PROMPT + text_of(stub.ModelInfer(request()))] * 2


def test_cancelling_ends_all_completions(server: RuntimeServer, stub: Stub) -> None:
    call = stub.ModelStreamInfer(iter([streamed(sampling={**EVERLASTING, "n": 5})]))
    next(call)
    until(lambda: server.metric("openmodel_runtime_requests_running") == 5, "five completions run")
    call.cancel()
    server.wait_until_idle()


def test_a_timeout_ends_all_completions(server: RuntimeServer, stub: Stub) -> None:
    message = request(sampling={**EVERLASTING, "n": 5})
    message.parameters["timeout"].int64_param = 300_000
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(message)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    server.wait_until_idle()


def test_a_stop_string_may_be_included_and_min_tokens_delays_it(stub: Stub) -> None:
    sampling = {**GREEDY, "max_tokens": 60}
    text = text_of(stub.ModelInfer(request(sampling=sampling)))
    stop = text[10:14]
    at = text.index(stop)
    shown = stub.ModelInfer(request(sampling={**sampling, "stop": stop, "include_stop_str_in_output": True}))
    assert text_of(shown) == text[: at + len(stop)]
    later = text_of(stub.ModelInfer(request(sampling={**sampling, "stop": stop, "min_tokens": 59})))
    assert later.startswith(text[: at + len(stop)])


def test_special_tokens_have_a_text_when_asked_for(stub: Stub) -> None:
    sampling = {"temperature": 100, "max_tokens": 400, "ignore_eos": True, "seed": 1}
    hidden = text_of(stub.ModelInfer(request(sampling=sampling)))
    shown = text_of(stub.ModelInfer(request(sampling={**sampling, "skip_special_tokens": False})))
    assert "<|" not in hidden
    assert "<|im_end|>" in shown or "<|im_start|>" in shown or "<|endoftext|>" in shown


def logprobs_of(response: pb.ModelInferResponse) -> list[dict[str, Any]]:
    (told,) = values(response, "logprobs")
    found: list[dict[str, Any]] = json.loads(told)
    return found


def test_greedy_tokens_are_the_likeliest(stub: Stub) -> None:
    response = stub.ModelInfer(request(sampling={**GREEDY, "logprobs": 3}, **TELL_LOGPROBS))
    tokens = logprobs_of(response)
    assert len(tokens) == GREEDY["max_tokens"]
    for token in tokens:
        assert [each["rank"] for each in token.values()] == [1, 2, 3]
        likely = [each["logprob"] for each in token.values()]
        assert likely == sorted(likely, reverse=True)
        assert sum(map(math.exp, likely)) <= 1 + 1e-5
    chosen = [next(iter(token.values())) for token in tokens]
    (cumulative,) = values(response, "cumulative_logprob")
    assert cumulative == pytest.approx(sum(each["logprob"] for each in chosen), rel=1e-5)


def test_a_streams_logprobs_are_those_of_the_tokens_it_counts(stub: Stub) -> None:
    sampling = {**HOT, "max_tokens": 100, "logprobs": 2}
    whole = stub.ModelInfer(request(sampling=sampling, **TELL_LOGPROBS))
    responses = [
        message.infer_response
        for message in stub.ModelStreamInfer(iter([streamed(sampling=sampling, **TELL_LOGPROBS)]))
    ]
    parts = [logprobs_of(each) for each in responses]
    assert [len(part) for part in parts] == [values(each, "num_output_tokens")[0] for each in responses]
    assert [token for part in parts for token in part] == logprobs_of(whole)
    assert values(responses[-1], "cumulative_logprob") == values(whole, "cumulative_logprob")
    sums = [values(each, "cumulative_logprob")[0] for each in responses]
    assert sums == sorted(sums, reverse=True)


def test_logprobs_of_a_completion_are_the_same_beside_others(stub: Stub) -> None:
    together = stub.ModelInfer(request(sampling={**HOT, "n": 3, "logprobs": 1}, **TELL_LOGPROBS))
    for index, seed in enumerate(SEEDS):
        single = stub.ModelInfer(request(sampling={**HOT, "seed": seed, "logprobs": 1}, **TELL_LOGPROBS))
        for output in ("text_output", "logprobs", "cumulative_logprob"):
            assert values(together, output)[index] == values(single, output)[0]


def test_the_flag_alone_tells_no_logprobs(stub: Stub) -> None:
    response = stub.ModelInfer(request(return_logprobs=True, return_cumulative_logprob=True))
    assert values(response, "logprobs") == ["null"]
    (cumulative,) = values(response, "cumulative_logprob")
    assert cumulative < 0


def test_penalties_change_what_repeats(stub: Stub) -> None:
    sampling = {**GREEDY, "max_tokens": 200, "logprobs": 0}

    def different(**penalty: float) -> int:
        """How many different tokens a completion has."""
        response = stub.ModelInfer(request(sampling={**sampling, **penalty}, **TELL_LOGPROBS))
        return len({next(iter(token)) for token in logprobs_of(response)})

    plain = different()
    assert different(presence_penalty=0, frequency_penalty=0, repetition_penalty=1) == plain
    assert different(frequency_penalty=2) > plain
    assert different(presence_penalty=2) > plain
    assert different(repetition_penalty=1.5) > plain


def test_completions_of_several_requests_on_one_call_are_told_apart(stub: Stub) -> None:
    requests = [request(sampling={**HOT, "n": 2}, id="two", **TELL), streamed(id="one")]
    messages = list(stub.ModelStreamInfer(iter(requests)))
    (two,) = (message.infer_response for message in messages if message.infer_response.id == "two")
    assert values(two, "text_output") == [alone(stub, seed) for seed in SEEDS[:2]]
    assert answers(message for message in messages if message.infer_response.id == "one")["one"].text
