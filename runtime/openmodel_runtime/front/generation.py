"""One generation from parsed request to chunks of text: tokenize, generate, detokenize, stop.

Knows requests and text; knows no gRPC.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path

from openmodel_runtime.checkpoint.generation_config import read_default_sampling
from openmodel_runtime.errors import DeadlineExceeded, InvalidRequest, QueueFull
from openmodel_runtime.front.detokenizer import IncrementalDecoder, StopScanner
from openmodel_runtime.front.parse import InferRequest
from openmodel_runtime.front.respond import Chunk
from openmodel_runtime.front.statistics import RequestTimer
from openmodel_runtime.front.text import TextModel
from openmodel_runtime.rank.supervisor import RankSupervisor

# Below this many characters tokenizing is quicker than handing it to a thread.
_INLINE_CHARACTERS = 4096


class Generator:
    """Generates for all callers of this pod."""

    def __init__(self, folder: Path, rank: RankSupervisor, max_waiting_requests: int) -> None:
        self._text = TextModel(folder)
        self._rank = rank
        self._limit = max_waiting_requests
        self.defaults = read_default_sampling(folder)
        """The checkpoint's sampling parameters."""
        self.under_way = 0
        """Generations that have not ended."""

    async def generate(self, request: InferRequest, timer: RequestTimer) -> AsyncGenerator[Chunk, None]:
        """Chunks of the completion: one a step with `stream`, else one in all.

        Closing the iterator ends the generation within one step.
        """
        if self.under_way >= self._limit:
            raise QueueFull(f"{self.under_way} requests are under way: try again in a second")
        self.under_way += 1
        try:
            async with aclosing(self._pieces(request, timer)) as pieces:
                chunks = pieces if request.stream else _whole(request, pieces)
                async with aclosing(_within(request.timeout_seconds, chunks)) as timed:
                    async for chunk in timed:
                        yield chunk
        finally:
            self.under_way -= 1

    async def _pieces(self, request: InferRequest, timer: RequestTimer) -> AsyncGenerator[Chunk, None]:
        client, loaded = self._rank.client, self._rank.loaded
        prompt = await self._encode(request)
        if len(prompt) >= loaded.max_model_len:
            raise InvalidRequest(
                f"the prompt has {len(prompt)} tokens and the model takes {loaded.max_model_len} with the completion: "
                "send a shorter one"
            )
        _check_tokens("the prompt", prompt, loaded.vocab_size)
        _check_tokens("stop_token_ids", request.sampling.params.stop_token_ids, loaded.vocab_size)
        timer.tokenized(len(prompt))
        decoder = IncrementalDecoder(self._text.decode)
        scanner = StopScanner(request.sampling.stop)
        tokens = 0
        async with aclosing(client.generate(prompt, request.sampling.params)) as outputs:
            async for output in outputs:
                timer.token()
                tokens += 1
                text = scanner.push(decoder.push(output.token))
                reason = output.finish_reason
                if reason and not scanner.stopped:
                    text += scanner.push(decoder.flush())
                    text += scanner.flush()
                if scanner.stopped:
                    reason = "stop"
                if text or reason:
                    yield Chunk(
                        text=text,
                        finish_reason=reason,
                        num_input_tokens=len(prompt),
                        num_output_tokens=tokens,
                    )
                    tokens = 0
                if reason:
                    return

    async def _encode(self, request: InferRequest) -> tuple[int, ...]:
        if request.text is not None and len(request.text) < _INLINE_CHARACTERS:
            return self._text.encode(request)
        return await asyncio.to_thread(self._text.encode, request)


def _check_tokens(what: str, tokens: Sequence[int], vocab_size: int) -> None:
    """A rank can not compute with a token that its model does not have."""
    if tokens and max(tokens) >= vocab_size:
        raise InvalidRequest(f"{what} has token {max(tokens)}, the model has {vocab_size} tokens, from 0 on")


async def _within(seconds: float | None, chunks: AsyncIterator[Chunk]) -> AsyncGenerator[Chunk, None]:
    """The chunks, or DeadlineExceeded once they have taken so long in all.

    Only the wait for a chunk is timed: a timeout around the `yield` would strike what the caller awaits meanwhile.
    """
    clock = asyncio.get_running_loop().time
    deadline = None if seconds is None else clock() + seconds
    while deadline is None or clock() < deadline:
        try:
            async with asyncio.timeout_at(deadline):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError:
            break
        yield chunk
    raise DeadlineExceeded(f"the request's timeout of {seconds} s ran out")


async def _whole(request: InferRequest, pieces: AsyncIterator[Chunk]) -> AsyncGenerator[Chunk, None]:
    text = [request.text or ""] if request.echo_prompt else []
    tokens = 0
    async for piece in pieces:
        text.append(piece.text)
        tokens += piece.num_output_tokens
        if piece.finish_reason:
            yield Chunk(
                text="".join(text),
                finish_reason=piece.finish_reason,
                num_input_tokens=piece.num_input_tokens,
                num_output_tokens=tokens,
            )
