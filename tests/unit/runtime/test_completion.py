"""One completion's pieces: text, counts and log-probabilities belong together, however many tokens come at once."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmodel_runtime.front.completion import MAX_PIECE_TOKENS, Completion, Piece, join_pieces
from openmodel_runtime.front.sampling_parameters import Sampling, parse_sampling
from openmodel_runtime.request import TokenOutput

Takes = Sequence[int]


def byte_decode(tokens: Sequence[int]) -> str:
    return bytes(tokens).decode(errors="replace")


def sampling(**given: Any) -> Sampling:
    return parse_sampling({"max_tokens": 1000, **given}, {})


def outputs(text: bytes, reason: str = "length", logprob: float | None = None) -> list[TokenOutput]:
    """A token a byte."""
    last = len(text) - 1
    return [
        TokenOutput(request_id=1, token=byte, finish_reason=reason if index == last else "", logprob=logprob)
        for index, byte in enumerate(text)
    ]


def pieces_of(completion: Completion, come: Sequence[TokenOutput], sizes: Takes = (1,)) -> list[Piece]:
    """What is told when so many tokens come before each look, over and over."""
    pieces = []
    rest = list(come)
    turn = 0
    while rest or completion.waiting:
        size = sizes[turn % len(sizes)]
        turn += 1
        for output in rest[:size]:
            completion.add(output)
        del rest[:size]
        if piece := completion.take():
            pieces.append(piece)
        if completion.ended:
            break
    return pieces


def test_a_piece_for_each_token_of_who_looks_at_each() -> None:
    pieces = pieces_of(Completion(sampling(), byte_decode), outputs(b"abc"))
    assert [(piece.text, piece.num_tokens, piece.finish_reason) for piece in pieces] == [
        ("a", 1, ""),
        ("b", 1, ""),
        ("c", 1, "length"),
    ]


def test_who_looks_seldom_gets_one_piece_with_all() -> None:
    (piece,) = pieces_of(Completion(sampling(), byte_decode), outputs(b"abc"), [3])
    assert (piece.text, piece.num_tokens, piece.finish_reason) == ("abc", 3, "length")


def test_a_long_backlog_is_told_in_parts() -> None:
    completion = Completion(sampling(), byte_decode)
    pieces = pieces_of(completion, outputs(b"x" * (2 * MAX_PIECE_TOKENS + 1)), [10_000])
    assert [piece.num_tokens for piece in pieces] == [MAX_PIECE_TOKENS, MAX_PIECE_TOKENS, 1]
    assert [piece.finish_reason for piece in pieces] == ["", "", "length"]


def test_a_reader_who_stands_still_costs_a_few_bytes_a_token() -> None:
    completion = Completion(sampling(), byte_decode)
    come = outputs(b"x" * 50_000)
    tracemalloc.start()
    for output in come:
        completion.add(output)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 16 * len(come)


def test_tokens_that_are_held_back_are_counted_with_their_text() -> None:
    completion = Completion(sampling(logprobs=0), byte_decode)
    pieces = pieces_of(completion, outputs("aé!".encode(), logprob=-0.5))
    assert [(piece.text, piece.num_tokens, len(piece.logprobs)) for piece in pieces] == [
        ("a", 1, 1),
        ("é", 2, 2),
        ("!", 1, 1),
    ]
    assert [piece.cumulative_logprob for piece in pieces] == [-0.5, -1.5, -2.0]


@given(
    st.text("ab\u00e9\u4e16", max_size=30),
    st.lists(st.integers(1, 7), min_size=1, max_size=5),
    st.lists(st.text("ab\u00e9", min_size=1, max_size=3), max_size=2),
    st.booleans(),
    st.integers(0, 10),
)
def test_how_many_tokens_come_at_once_changes_no_text_and_no_count(
    text: str, sizes: list[int], stop: list[str], include: bool, least: int
) -> None:
    """And the log-probabilities of a piece are those of the tokens that it counts."""
    given_: Mapping[str, Any] = {
        "stop": stop, "include_stop_str_in_output": include, "min_tokens": least, "logprobs": 0
    }  # fmt: skip
    come = outputs(text.encode() + b".", logprob=-1.0)
    one_by_one, at_once = (pieces_of(Completion(sampling(**given_), byte_decode), come, each) for each in ([1], sizes))
    assert all(len(piece.logprobs) == piece.num_tokens for piece in [*one_by_one, *at_once])
    tokens = [output.token for piece in at_once for output in piece.logprobs]
    assert tokens == [output.token for output in come[: len(tokens)]]
    whole = [join_pieces(pieces) for pieces in (one_by_one, at_once)]
    assert whole[0] == whole[1]
    assert whole[0].cumulative_logprob == -len(tokens)


@pytest.mark.parametrize("sizes", [[1], [100]])
@pytest.mark.parametrize(("include", "text"), [(False, "one "), (True, "one stop")])
def test_a_stop_string_ends_a_completion(sizes: Takes, include: bool, text: str) -> None:
    given_ = sampling(stop=["never", "stop"], include_stop_str_in_output=include, logprobs=0)
    completion = Completion(given_, byte_decode)
    whole = join_pieces(pieces_of(completion, outputs(b"one stop two stop"), sizes))
    assert (whole.text, whole.finish_reason, whole.stop_reason) == (text, "stop", "stop")
    # The tokens up to the one that completes the stop string.
    assert (whole.num_tokens, len(whole.logprobs), completion.num_tokens) == (8, 8, 8)
    assert not completion.waiting
    completion.add(outputs(b"x")[0])
    assert completion.take() is None


@pytest.mark.parametrize("sizes", [[1], [100]])
def test_min_tokens_delays_stop_strings(sizes: Takes) -> None:
    for least, text in ((0, ""), (1, ""), (2, "ab"), (3, "ab"), (4, "ababx"), (5, "ababx")):
        whole = join_pieces(
            pieces_of(Completion(sampling(stop=["ab"], min_tokens=least), byte_decode), outputs(b"ababx"), sizes)
        )
        assert (least, whole.text) == (least, text)


def test_a_stop_token_has_no_text_unless_asked_for() -> None:
    for include, text in ((False, "ab"), (True, "ab.")):
        given_ = sampling(stop_token_ids=[ord(".")], include_stop_str_in_output=include)
        whole = join_pieces(pieces_of(Completion(given_, byte_decode), outputs(b"ab.", "stop")))
        assert (whole.text, whole.num_tokens, whole.stop_reason) == (text, 3, str(ord(".")))
    # The model's own end token is not what the caller asked to stop at.
    whole = join_pieces(pieces_of(Completion(sampling(), byte_decode), outputs(b"ab.", "stop")))
    assert (whole.text, whole.finish_reason, whole.stop_reason) == ("ab", "stop", "")


def test_what_is_held_back_comes_with_the_end() -> None:
    whole = join_pieces(pieces_of(Completion(sampling(stop=["bcd"]), byte_decode), outputs(b"abc\xc3")))
    assert (whole.text, whole.finish_reason) == ("abc\ufffd", "length")


def test_a_completion_without_news_has_a_piece_that_says_so() -> None:
    completion = Completion(sampling(logprobs=0), byte_decode)
    assert completion.take() is None
    assert completion.nothing_new() == Piece()
    pieces_of(completion, outputs(b"a", logprob=-0.5))
    assert completion.nothing_new() == Piece(finish_reason="length", cumulative_logprob=-0.5)


def test_a_prompt_may_stand_before_the_text() -> None:
    assert join_pieces([Piece(text="a"), Piece(text="b")], "prompt ").text == "prompt ab"
