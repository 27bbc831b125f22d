"""The generations of this pod: a place in the queue, tokens from the rank, pieces of text for the caller.

A request may have several completions: each is a generation of the rank's, and their pieces come side by side. Knows
requests and text; knows no gRPC.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from openmodel_runtime.checkpoint.generation_config import read_default_sampling
from openmodel_runtime.errors import DeadlineExceeded, InvalidRequest, RequestError
from openmodel_runtime.front.back_pressure import Places
from openmodel_runtime.front.completion import MAX_PIECE_TOKENS, Completion, Piece, join_pieces
from openmodel_runtime.front.parse import InferRequest
from openmodel_runtime.front.statistics import RequestTimer
from openmodel_runtime.group.group_client import GroupClient, RequestId
from openmodel_runtime.group.supervisor import RankSupervisor
from openmodel_runtime.rank.messages import Loaded
from openmodel_runtime.request import TokenOutput
from openmodel_runtime.text.text_model import TextModel, open_text_model

# Log-probabilities of one request, all completions together: until they are read they take 100 bytes each here.
_MAX_LOGPROB_VALUES = 1_000_000


class Generator:
    """Generates for all callers of this pod."""

    def __init__(self, folder: Path, rank: RankSupervisor, max_waiting_requests: int) -> None:
        self.text = open_text_model(folder)
        """Tokenizer and template of the model."""
        self._rank = rank
        self._places = Places(max_waiting_requests)
        self.defaults = read_default_sampling(folder)
        """The checkpoint's sampling parameters."""

    @property
    def under_way(self) -> int:
        """Completions that have not ended."""
        return self._places.taken

    async def generate(self, request: InferRequest, timer: RequestTimer) -> AsyncGenerator[Sequence[Piece], None]:
        """A piece of each completion: whenever one has news with `stream`, else once, with all there is.

        Closing the iterator ends the generation within one step. Raises RequestError.
        """
        loop = asyncio.get_running_loop()
        timeout = request.timeout_seconds
        deadline = None if timeout is None else loop.time() + timeout
        self._places.take(request.sampling.n, loop.time())
        run: _Run | None = None
        try:
            client = self._rank.client
            async with asyncio.timeout_at(deadline):
                prompt = await self.text.encode(request.prompt)
            _check_prompt(request, prompt, self._rank.loaded)
            timer.tokenized(len(prompt))
            run = _Run(request, client, self.text, timer, deadline)
            run.submit(prompt)
            while not run.ended:
                await run.news()
                if pieces := run.take():
                    if timer.content is not None:
                        timer.content.answered(pieces, run.echoed)
                    yield pieces
        except TimeoutError:
            raise DeadlineExceeded(f"the request's timeout of {timeout} s ran out") from None
        finally:
            if run is not None:
                run.close()
            self._places.give_back(request.sampling.n, loop.time())


class _Run:
    """The completions of one request while the rank generates them."""

    def __init__(
        self, request: InferRequest, client: GroupClient, text: TextModel, timer: RequestTimer, deadline: float | None
    ) -> None:
        self._sampling = request.sampling
        self._stream = request.stream
        self._echo = request.prompt if request.echo_prompt and isinstance(request.prompt, str) else ""
        self._client = client
        self._timer = timer
        decode = text.decode if self._sampling.skip_special_tokens else text.decode_all
        self._completions = [Completion(self._sampling, decode) for _ in range(self._sampling.n)]
        self._ids: list[RequestId] = []
        # Pieces of each completion, of which one response is made at the end.
        self._parts: list[list[Piece]] = [[] for _ in self._completions]
        self._changed = asyncio.Event()
        self._lost: RequestError | None = None
        self._expired = False
        expiry = None if deadline is None else asyncio.get_running_loop().call_at(deadline, self._expire)
        self._expiry = expiry

    @property
    def echoed(self) -> int:
        """Characters of the prompt that each completion begins with."""
        return len(self._echo)

    def submit(self, prompt: tuple[int, ...]) -> None:
        """Hands every completion to the rank."""
        # One response for all is worth waking up for now and then, and as soon as a stop string may have come.
        every = 1 if self._stream or self._sampling.stop else MAX_PIECE_TOKENS
        for index, completion in enumerate(self._completions):
            sink = _Sink(self, completion, self._timer, every)
            self._ids.append(self._client.submit(prompt, self._sampling.of_completion(index), sink))

    def came(self) -> None:
        """Tokens are there to be looked at."""
        self._changed.set()

    def lost(self, error: RequestError) -> None:
        """The rank has ended, or gave this up."""
        self._lost = error
        self._changed.set()

    def _expire(self) -> None:
        self._expired = True
        self._changed.set()

    @property
    def ended(self) -> bool:
        """True once the last piece of every completion was taken."""
        return all([completion.ended for completion in self._completions])

    async def news(self) -> None:
        """Returns once there may be something to take: TimeoutError at the deadline, Unavailable without the rank."""
        if self._expired:
            raise TimeoutError
        if any([completion.waiting for completion in self._completions]):
            # More has come meanwhile, or a long backlog is taken in parts: the others have their turn first.
            await asyncio.sleep(0)
        elif self._lost is not None:
            raise self._lost
        else:
            await self._changed.wait()
        self._changed.clear()

    def take(self) -> list[Piece]:
        """A piece of each completion; none at all when there is nothing to tell."""
        news = [completion.take() for completion in self._completions]
        self._timer.output_tokens = sum([completion.num_tokens for completion in self._completions])
        for request_id, piece in zip(self._ids, news, strict=True):
            if piece is not None and piece.finish_reason:
                # A stop string is nothing that the rank sees.
                self._client.abort(request_id)
        if self._stream:
            told = any([piece is not None for piece in news])
            pairs = zip(self._completions, news, strict=True)
            return [piece or completion.nothing_new() for completion, piece in pairs] if told else []
        for parts, piece in zip(self._parts, news, strict=True):
            if piece is not None:
                parts.append(piece)
        return [join_pieces(parts, self._echo) for parts in self._parts] if self.ended else []

    def close(self) -> None:
        """Ends what the rank still generates."""
        if self._expiry is not None:
            self._expiry.cancel()
        for request_id in self._ids:
            self._client.abort(request_id)


class _Sink:
    """Takes the tokens of one completion."""

    __slots__ = ("_completion", "_every", "_run", "_swapped", "_timer")

    def __init__(self, run: _Run, completion: Completion, timer: RequestTimer, every: int) -> None:
        self._run = run
        self._completion = completion
        self._timer = timer
        self._every = every
        self._swapped = 0.0

    def admitted(self, at_ns: int, swapped: float) -> None:
        """See `TokenSink`."""
        self._swapped = swapped
        self._timer.admitted_at(at_ns)

    def finished(self, swapped: float) -> None:
        """See `TokenSink`."""
        self._timer.exchanged(swapped - self._swapped)

    def token(self, output: TokenOutput) -> None:
        """Takes a token, and says so with every so many and with the last."""
        self._timer.token(output.cached_prompt_tokens)
        if self._completion.add(output) >= self._every or output.finish_reason:
            self._run.came()

    def lost(self, error: RequestError) -> None:
        """No more tokens come."""
        self._run.lost(error)


def _check_prompt(request: InferRequest, prompt: Sequence[int], loaded: Loaded) -> None:
    """What only the model's sizes show to be wrong: InvalidRequest."""
    if len(prompt) >= loaded.max_model_len:
        raise InvalidRequest(
            f"the prompt has {len(prompt)} tokens and the model takes {loaded.max_model_len} with the completion: "
            "send a shorter one"
        )
    params = request.sampling.params
    _check_tokens("the prompt", prompt, loaded.vocab_size)
    _check_tokens("stop_token_ids", params.stop_token_ids, loaded.vocab_size)
    if params.logprobs is not None:
        tokens = min(params.max_tokens, loaded.max_model_len - len(prompt))
        values = request.sampling.n * tokens * (params.logprobs + 1)
        if values > _MAX_LOGPROB_VALUES:
            raise InvalidRequest(
                f"{values} log-probabilities are too many to be told, {_MAX_LOGPROB_VALUES} are not: ask for less n, "
                "max_tokens or logprobs"
            )


def _check_tokens(what: str, tokens: Sequence[int], vocab_size: int) -> None:
    """A rank can not compute with a token that its model does not have."""
    if tokens and max(tokens) >= vocab_size:
        raise InvalidRequest(f"{what} has token {max(tokens)}, the model has {vocab_size} tokens, from 0 on")
