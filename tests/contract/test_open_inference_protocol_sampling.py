"""What a completion is made of: prompt or messages, sampling parameters, and where it ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
import pytest

from checkpoints import EOS_ID, VOCABULARY
from contract.infer_requests import GREEDY, PROMPT, answers, request, streamed, text_of, value
from contract.runtime_server import RuntimeServer
from openmodel_protos import grpc_service_pb2 as pb
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc

Stub = pb_grpc.GRPCInferenceServiceStub
# So hot that every token is as likely as any other: bytes, parts of characters, end tokens.
ANYTHING: Mapping[str, Any] = {"temperature": 100, "max_tokens": 400, "ignore_eos": True}


def completion(stub: Stub, sampling: Mapping[str, Any], text: str = PROMPT) -> tuple[str, str, int]:
    """Text, finish reason and number of tokens."""
    response = stub.ModelInfer(request(text, sampling, return_finish_reason=True, return_num_output_tokens=True))
    return text_of(response), str(value(response, "finish_reason")), int(value(response, "num_output_tokens"))


def refusal(stub: Stub, message: pb.ModelInferRequest) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(message)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    return str(caught.value.details())


def test_max_tokens_ends_a_completion(stub: Stub) -> None:
    assert completion(stub, {**GREEDY, "max_tokens": 1})[1:] == ("length", 1)
    assert completion(stub, {**GREEDY, "max_tokens": 7})[1:] == ("length", 7)
    assert completion(stub, {"temperature": 0, "ignore_eos": True})[1:] == ("length", 16)


def test_a_longer_completion_starts_with_the_shorter_one(stub: Stub) -> None:
    longer, shorter = (completion(stub, {**GREEDY, "max_tokens": tokens})[0] for tokens in (60, 30))
    assert longer.startswith(shorter.rstrip("\ufffd"))


def test_a_stop_string_ends_a_completion_and_is_left_out(stub: Stub) -> None:
    sampling = {**GREEDY, "max_tokens": 100}
    text, _, tokens = completion(stub, sampling)
    middle = len(text) // 2
    stop = text[middle : middle + 5]
    expected = text[: text.index(stop)]
    stopped = completion(stub, {**sampling, "stop": ["never in there", stop]})
    assert stopped[:2] == (expected, "stop")
    assert stopped[2] < tokens
    answer = answers(stub.ModelStreamInfer(iter([streamed(sampling={**sampling, "stop": stop})])))[""]
    assert (answer.text, answer.finish_reason) == (expected, "stop")


def test_a_stop_string_that_never_comes_holds_nothing_back(stub: Stub) -> None:
    text = completion(stub, GREEDY)[0]
    assert completion(stub, {**GREEDY, "stop": [text[-3:] + "never"]})[0] == text


def test_a_stop_token_ends_a_completion_and_min_tokens_puts_it_off(stub: Stub) -> None:
    sampling = {**GREEDY, "max_tokens": 60, "stop_token_ids": list(range(VOCABULARY // 2))}
    _, reason, tokens = completion(stub, sampling)
    assert (reason, tokens < 20) == ("stop", True)
    _, _, more = completion(stub, {**sampling, "min_tokens": 20})
    assert more >= 20
    assert completion(stub, {**sampling, "min_tokens": 60})[1:] == ("length", 60)


@pytest.mark.parametrize("sampling", [{"min_tokens": 4}, {}, {"temperature": 1, "min_tokens": 4}])
def test_a_token_that_the_model_does_not_have_is_the_callers_error(
    server: RuntimeServer, stub: Stub, sampling: Mapping[str, Any]
) -> None:
    """It must not get to the rank, which everybody shares."""
    rank = server.rank()
    told = refusal(stub, request(sampling={**GREEDY, **sampling, "stop_token_ids": [3, VOCABULARY]}))
    assert (f"token {VOCABULARY}" in told, "stop_token_ids" in told) == (True, True)
    assert completion(stub, {**GREEDY, **sampling, "stop_token_ids": [VOCABULARY - 1]})[2] > 0
    assert server.rank() == rank


def test_forbidding_every_token_harms_nobody(server: RuntimeServer, stub: Stub) -> None:
    rank = server.rank()
    for temperature in (0, 1):
        sampling = {"temperature": temperature, "max_tokens": 4, "min_tokens": 4}
        assert completion(stub, {**sampling, "stop_token_ids": list(range(VOCABULARY))})[2] == 4
    assert server.rank() == rank


def test_too_many_stop_strings_are_refused(stub: Stub) -> None:
    assert "stop" in refusal(stub, request(sampling={**GREEDY, "stop": ["x"] * 100_000}))
    assert "stop" in refusal(stub, request(sampling={**GREEDY, "stop": "x" * 100_000}))
    assert completion(stub, {**GREEDY, "stop": ["never in there"] * 64}) == completion(stub, GREEDY)


def test_an_end_token_ends_a_completion_unless_ignored(stub: Stub) -> None:
    seeds = range(6)
    requests = [streamed(sampling={**ANYTHING, "seed": seed, "ignore_eos": False}, id=str(seed)) for seed in seeds]
    ended = {
        id: answer
        for id, answer in answers(stub.ModelStreamInfer(iter(requests))).items()
        if answer.num_output_tokens < 400
    }
    assert ended, "no seed draws the end token: choose others"
    for id, answer in ended.items():
        assert answer.finish_reason == "stop"
        text, reason, tokens = completion(stub, {**ANYTHING, "seed": int(id)})
        assert (reason, tokens) == ("length", 400)
        assert text.startswith(answer.text.rstrip("\ufffd"))
        assert completion(stub, {**ANYTHING, "seed": int(id), "ignore_eos": False, "min_tokens": 400})[1] == "length"
        assert (
            completion(stub, {**ANYTHING, "seed": int(id), "stop_token_ids": [EOS_ID]})[2] == answer.num_output_tokens
        )


def test_a_seed_repeats_and_another_differs(stub: Stub) -> None:
    hot = {"temperature": 1.5, "max_tokens": 40, "ignore_eos": True}
    first, again, other = (completion(stub, {**hot, "seed": seed})[0] for seed in (1, 1, 2))
    assert first == again != other
    assert len({completion(stub, hot)[0] for _ in range(3)}) == 3


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1}, {"temperature": 1e-300}])
def test_choosing_among_one_token_is_greedy(stub: Stub, narrow: Mapping[str, Any]) -> None:
    sampling = {"temperature": 1, "max_tokens": 30, "ignore_eos": True, **narrow}
    assert completion(stub, sampling)[0] == completion(stub, {**GREEDY, "max_tokens": 30})[0]


def test_numbers_may_be_strings(stub: Stub) -> None:
    strings = {"temperature": "0", "max_tokens": "12", "ignore_eos": "true"}
    assert completion(stub, strings) == completion(stub, GREEDY)


def test_characters_of_many_bytes_arrive_whole(stub: Stub) -> None:
    seeds = [streamed(sampling={**ANYTHING, "seed": seed}, id=str(seed)) for seed in range(2)]
    for id, answer in answers(stub.ModelStreamInfer(iter(seeds))).items():
        assert any(ord(character) > 127 and character != "\ufffd" for character in answer.text)
        assert answer.text == completion(stub, {**ANYTHING, "seed": int(id)})[0]
        # A character that is not whole yet is held back, so no piece but the last ends in the middle of one.
        assert not any(piece.endswith("\ufffd") for piece in answer.pieces[:-1])
