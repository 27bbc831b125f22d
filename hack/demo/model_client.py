"""A small streaming client over tritonclient, as any service could write it: pieces of text with their times.

The demo, the benchmark and the cluster tests use it. Knows the tensors of a generation; knows no cluster.
"""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tritonclient.grpc as grpcclient

Message = dict[str, str]
_TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class Piece:
    """What one response of a stream brought."""

    text: str
    tokens: int
    """Tokens that the text is made of."""
    seconds: float
    """Since the request was sent."""
    finish_reason: str
    """"" but in the last piece."""


def tensor(name: str, value: str | bool) -> grpcclient.InferInput:
    """An input of shape [1]."""
    is_flag = isinstance(value, bool)
    made = grpcclient.InferInput(name, [1], "BOOL" if is_flag else "BYTES")
    made.set_data_from_numpy(np.array([value if is_flag else str(value).encode()], dtype=bool if is_flag else object))
    return made


def stream(address: str, model: str, prompt: str | Sequence[Message], **sampling: object) -> Iterator[Piece]:
    """Generates on `address` (HOST:PORT) and yields pieces as they come; RuntimeError in the server's words."""
    client = grpcclient.InferenceServerClient(address)
    answers: queue.Queue[tuple[grpcclient.InferResult | None, Exception | None]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    began = time.monotonic()
    try:
        client.async_stream_infer(model, _inputs(prompt, sampling))
        final = False
        while not final:
            result, error = answers.get(timeout=_TIMEOUT_SECONDS)
            if result is None:
                raise RuntimeError(f"the model answered with an error: {error}")
            final = result.get_response().parameters["triton_final_response"].bool_param
            yield Piece(
                text=result.as_numpy("text_output")[0].decode(),
                tokens=int(result.as_numpy("num_output_tokens")[0]),
                seconds=time.monotonic() - began,
                finish_reason=result.as_numpy("finish_reason")[0].decode(),
            )
    finally:
        client.stop_stream(cancel_requests=True)
        client.close()


def _inputs(prompt: str | Sequence[Message], sampling: dict[str, object]) -> list[grpcclient.InferInput]:
    is_text = isinstance(prompt, str)
    return [
        tensor("text_input", str(prompt)) if is_text else tensor("messages", json.dumps(prompt)),
        tensor("sampling_parameters", json.dumps(sampling)),
        tensor("stream", True),
        tensor("return_finish_reason", True),
        tensor("return_num_output_tokens", True),
    ]
