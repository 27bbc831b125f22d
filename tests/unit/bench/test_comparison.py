"""Rows of the engine benchmark: medians, and the peer that each ratio is against."""

from __future__ import annotations

from bench.measure.comparison import OURS, Measured, make_medians, make_rows
from bench.measure.roofline import Limits, ModelShape, decode_tokens_per_s
from bench.measure.timeline import Round

MODEL = "model"
SHAPE = ModelShape(layers=2, hidden=64, intermediate=128, heads=4, kv_heads=2, head_dim=16, vocab=512)
LIMITS = Limits(read_gb_per_s=10, bf16_gflop_per_s=100)
CONTEXT = 192.0


def measured(
    engine: str, beside: str, tokens_per_s: float, *, first: float = 1.0, step: float = 0.1, streams: int = 4
) -> Measured:
    figures = Round(seconds=1.0, first_token_s=first, step_s=step, tokens=round(tokens_per_s))
    return Measured(model=MODEL, engine=engine, beside=beside, streams=streams, figures=figures, foreign_cpu=0.0)


def pair(peer: str, ours: float, theirs: float, *, our_first: float = 1.0, their_first: float = 1.0) -> list[Measured]:
    return [
        measured(OURS, peer, ours, first=our_first),
        measured(peer, peer, theirs, first=their_first),
    ]


def row(rounds: list[Measured]) -> dict[str, object]:
    (only,) = make_rows(rounds, {MODEL: SHAPE}, LIMITS, CONTEXT)
    return only


def test_a_row_has_these_keys_and_no_others() -> None:
    assert list(row(pair("vllm", 100, 50))) == [
        *("model", "streams", "tokens_per_s", "best_peer", "ratio_to_best_peer"),
        *("roofline_share", "first_token_s", "first_token_ratio"),
    ]


def test_the_best_peer_is_the_one_with_the_highest_median() -> None:
    lucky_once = [*pair("llama.cpp", 100, 90), *pair("llama.cpp", 100, 10), *pair("llama.cpp", 100, 20)]
    steady = [*pair("vllm", 100, 40), *pair("vllm", 100, 50), *pair("vllm", 100, 60)]
    found = row(lucky_once + steady)
    assert (found["best_peer"], found["ratio_to_best_peer"]) == ("vllm", 2.0)


def test_the_ratio_takes_our_rounds_beside_the_best_peer_only() -> None:
    # The machine was half as quick while vLLM ran: both were.
    rounds = [*pair("llama.cpp", 200, 40), *pair("vllm", 100, 50)]
    assert row(rounds)["ratio_to_best_peer"] == 2.0
    assert row(rounds)["tokens_per_s"] == 150.0


def test_the_first_token_is_compared_with_the_peer_that_is_quickest_there() -> None:
    rounds = [
        *pair("llama.cpp", 100, 90, our_first=0.3, their_first=0.6),
        *pair("vllm", 100, 50, our_first=0.1, their_first=0.4),
    ]
    found = row(rounds)
    assert (found["best_peer"], found["first_token_ratio"], found["first_token_s"]) == ("llama.cpp", 0.25, 0.2)


def test_the_share_of_the_roofline_counts_decoding_alone() -> None:
    bound = decode_tokens_per_s(SHAPE, LIMITS, 4, CONTEXT)
    found = row([measured(OURS, "vllm", 1, step=4 / bound / 0.5)])
    assert found["roofline_share"] == 0.5


def test_without_peers_there_is_nothing_to_compare() -> None:
    found = row([measured(OURS, "", 100)])
    assert [found[key] for key in ("best_peer", "ratio_to_best_peer", "first_token_ratio")] == [None, None, None]


def test_a_peer_that_failed_for_some_streams_is_compared_where_it_did_not() -> None:
    rounds = [*pair("vllm", 100, 50), measured(OURS, "llama.cpp", 90, streams=16)]
    four, sixteen = make_rows(rounds, {MODEL: SHAPE}, LIMITS, CONTEXT)
    assert (four["best_peer"], sixteen["best_peer"]) == ("vllm", None)


def test_what_only_a_peer_was_measured_with_makes_no_row() -> None:
    rounds = [measured("vllm", "vllm", 50)]
    assert make_rows(rounds, {MODEL: SHAPE}, LIMITS, CONTEXT) == []
    (median,) = make_medians(rounds)
    assert (median["engine"], median["tokens_per_s"], median["decode_tokens_per_s"]) == ("vllm", 50.0, 40.0)
