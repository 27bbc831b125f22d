"""A request's completions side by side: what the rank is asked for, what the caller gets, and when all of it ends.

The rank is a double that says what the test tells it to; everything else is real.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from checkpoints import VOCABULARY, tiny_tokenizer
from openmodel_runtime.errors import DeadlineExceeded, InvalidRequest, QueueFull, Unavailable
from openmodel_runtime.front.completion import MAX_PIECE_TOKENS, Piece
from openmodel_runtime.front.generation import Generator
from openmodel_runtime.front.parse import InferRequest
from openmodel_runtime.front.sampling_parameters import parse_sampling
from openmodel_runtime.front.statistics import RequestTimer
from openmodel_runtime.group.supervisor import RankSupervisor
from openmodel_runtime.rank.client import TokenSink
from openmodel_runtime.request import SamplingParams, TokenOutput

TOKENIZER = tiny_tokenizer()
PLACES = 8


class Rank:
    """What the front sees of a rank."""

    def __init__(self) -> None:
        self.sinks: list[TokenSink] = []
        self.asked: list[SamplingParams] = []
        self.aborted: set[int] = set()
        self.loaded = SimpleNamespace(vocab_size=VOCABULARY, max_model_len=4096)

    @property
    def client(self) -> Rank:
        return self

    def submit(self, prompt: tuple[int, ...], sampling: SamplingParams, sink: TokenSink) -> int:
        self.sinks.append(sink)
        self.asked.append(sampling)
        return len(self.sinks) - 1

    def abort(self, request_id: int) -> None:
        self.aborted.add(request_id)

    def say(self, completion: int, text: str, reason: str = "") -> None:
        """Tokens of the completion, each a byte; the last one with the reason."""
        ids = [TOKENIZER.encode(character).ids[0] for character in text]
        for index, token in enumerate(ids):
            last = index == len(ids) - 1
            self.sinks[completion].token(
                TokenOutput(request_id=completion, token=token, finish_reason=reason if last else "")
            )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text")
    TOKENIZER.save(str(path / "tokenizer.json"))
    return path


@pytest.fixture
def rank() -> Rank:
    return Rank()


@pytest.fixture
def generator(folder: Path, rank: Rank) -> Generator:
    return Generator(folder, cast(RankSupervisor, rank), PLACES)


def infer(*, stream: bool = True, timeout: float | None = None, text: str = "Hi", **sampling: Any) -> InferRequest:
    return InferRequest(
        prompt=text,
        sampling=parse_sampling({"max_tokens": 3000, **sampling}, {}),
        stream=stream,
        echo_prompt=False,
        outputs=("text_output",),
        timeout_seconds=timeout,
    )


News = AsyncGenerator[Sequence[Piece], None]


async def started(
    generator: Generator, rank: Rank, request: InferRequest
) -> tuple[News, asyncio.Task[Sequence[Piece]]]:
    """The generation, and its first news, once the rank was asked."""
    news = generator.generate(request, RequestTimer())
    asked = len(rank.sinks) + request.sampling.n
    first = asyncio.ensure_future(anext(news))
    while len(rank.sinks) < asked and not first.done():
        await asyncio.sleep(0)
    return news, first


def told(pieces: Sequence[Piece]) -> list[tuple[str, int, str]]:
    return [(piece.text, piece.num_tokens, piece.finish_reason) for piece in pieces]


async def test_each_completion_is_a_generation_with_a_seed_of_its_own(generator: Generator, rank: Rank) -> None:
    news, first = await started(generator, rank, infer(n=3, seed=7))
    assert [params.seed for params in rank.asked] == [7, 8, 9]
    assert generator.under_way == 3
    rank.say(1, "b")
    assert told(await first) == [("", 0, ""), ("b", 1, ""), ("", 0, "")]
    rank.say(0, "a", "stop")
    rank.say(2, "c", "length")
    assert told(await anext(news)) == [("", 1, "stop"), ("", 0, ""), ("c", 1, "length")]
    # The reason of a completion that has ended is told until all have.
    rank.say(1, "d", "length")
    assert told(await anext(news)) == [("", 0, "stop"), ("d", 1, "length"), ("", 0, "length")]
    with pytest.raises(StopAsyncIteration):
        await anext(news)
    assert generator.under_way == 0


async def test_without_stream_all_come_at_once(generator: Generator, rank: Rank) -> None:
    _, first = await started(generator, rank, infer(stream=False, n=2))
    rank.say(0, "one", "length")
    rank.say(1, "tw")
    await asyncio.sleep(0)
    assert not first.done()
    rank.say(1, "o", "length")
    assert told(await first) == [("one", 3, "length"), ("two", 3, "length")]


async def test_a_slow_reader_gets_fewer_and_larger_pieces(generator: Generator, rank: Rank) -> None:
    news, first = await started(generator, rank, infer())
    rank.say(0, "a")
    assert told(await first) == [("a", 1, "")]
    for _ in range(MAX_PIECE_TOKENS + 44):
        rank.say(0, "x")
    rank.say(0, "z", "length")
    assert told(await anext(news)) == [("x" * MAX_PIECE_TOKENS, MAX_PIECE_TOKENS, "")]
    assert told(await anext(news)) == [("x" * 44 + "z", 45, "length")]


async def test_a_stop_string_ends_its_completion_in_the_rank_and_no_other(generator: Generator, rank: Rank) -> None:
    news, first = await started(generator, rank, infer(n=2, stop="b"))
    rank.say(0, "ab")
    assert told(await first) == [("a", 2, "stop"), ("", 0, "")]
    assert rank.aborted == {0}
    rank.say(1, "c", "length")
    assert told(await anext(news))[1] == ("c", 1, "length")


async def test_a_stop_string_is_seen_at_once_without_stream_too(generator: Generator, rank: Rank) -> None:
    _, first = await started(generator, rank, infer(stream=False, stop="b"))
    rank.say(0, "ab")
    assert told(await first) == [("a", 2, "stop")]
    assert rank.aborted == {0}


@pytest.mark.parametrize("stream", [True, False])
async def test_whoever_goes_away_ends_all_completions(generator: Generator, rank: Rank, stream: bool) -> None:
    news, first = await started(generator, rank, infer(stream=stream, n=3))
    first.cancel()
    async with aclosing(news):
        await asyncio.wait([first])
    assert (rank.aborted, generator.under_way) == ({0, 1, 2}, 0)


async def test_the_timeout_ends_all_completions_though_there_is_news(generator: Generator, rank: Rank) -> None:
    news, first = await started(generator, rank, infer(n=2, timeout=0.01))
    rank.say(0, "a")
    await first
    timeout = asyncio.get_running_loop().time() + 0.01
    expired = asyncio.Event()
    asyncio.get_running_loop().call_at(timeout, expired.set)
    await expired.wait()
    rank.say(0, "b")
    with pytest.raises(DeadlineExceeded, match=r"timeout of 0\.01 s"):
        await anext(news)
    assert (rank.aborted, generator.under_way) == ({0, 1}, 0)


async def test_what_came_before_the_rank_ended_is_told_first(generator: Generator, rank: Rank) -> None:
    news, first = await started(generator, rank, infer(n=2))
    rank.say(0, "a", "length")
    rank.say(1, "b")
    rank.sinks[1].lost(Unavailable("the rank ended"))
    assert told(await first) == [("a", 1, "length"), ("b", 1, "")]
    with pytest.raises(Unavailable, match="the rank ended"):
        await anext(news)
    assert generator.under_way == 0


async def test_completions_count_and_not_requests(generator: Generator, rank: Rank) -> None:
    _, _ = await started(generator, rank, infer(n=PLACES - 1))
    with pytest.raises(QueueFull, match=f"{PLACES - 1} completions"):
        await anext(generator.generate(infer(n=2), RequestTimer()))
    news, first = await started(generator, rank, infer())
    assert generator.under_way == PLACES
    first.cancel()
    await asyncio.wait([first])
    await news.aclose()
    assert generator.under_way == PLACES - 1


async def test_a_refused_prompt_gives_its_places_back(generator: Generator, rank: Rank) -> None:
    for request in (infer(text=""), infer(text="x y " * 4096), infer(stop_token_ids=[VOCABULARY])):
        with pytest.raises(InvalidRequest):
            await anext(generator.generate(request, RequestTimer()))
    assert (generator.under_way, rank.sinks) == (0, [])


async def test_more_log_probabilities_than_can_wait_here_are_refused(folder: Path, rank: Rank) -> None:
    generator = Generator(folder, cast(RankSupervisor, rank), 64)
    with pytest.raises(InvalidRequest, match="less n, max_tokens or logprobs"):
        await anext(generator.generate(infer(n=64, logprobs=20), RequestTimer()))
    await started(generator, rank, infer(n=64, logprobs=20, max_tokens=100))
    assert len(rank.sinks) == 64
