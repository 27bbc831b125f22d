"""Asks a model in the cluster and prints its answer as it comes, with the time to the first token and the speed after it.

The client is tritonclient, as any service would use it; only the port-forward is for being outside of the cluster.
"""

from __future__ import annotations

import argparse
import json
import queue
import time

import numpy as np
import tritonclient.grpc as grpcclient
from port_forward import port_forward

_TIMEOUT_SECONDS = 120


def chat(address: str, model: str, question: str, max_tokens: int) -> None:
    """Streams one answer."""
    client = grpcclient.InferenceServerClient(address)
    answers: queue.Queue[tuple[grpcclient.InferResult | None, Exception | None]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    began = time.monotonic()
    client.async_stream_infer(
        model,
        [
            _tensor("messages", json.dumps([{"role": "user", "content": question}])),
            _tensor("sampling_parameters", json.dumps({"temperature": 0, "max_tokens": max_tokens})),
            _tensor("stream", True),
            _tensor("return_num_output_tokens", True),
        ],
    )
    first = tokens = None
    total = 0
    print(f"\n{model}: ", end="")
    while tokens is None or not final:
        result, error = answers.get(timeout=_TIMEOUT_SECONDS)
        if error is not None:
            raise SystemExit(f"the model answered with an error: {error}")
        assert result is not None
        first = first or time.monotonic() - began
        tokens = int(result.as_numpy("num_output_tokens")[0])
        total += tokens
        print(result.as_numpy("text_output")[0].decode(), end="", flush=True)
        final = result.get_response().parameters["triton_final_response"].bool_param
    seconds = time.monotonic() - began
    client.stop_stream()
    client.close()
    speed = (total - 1) / (seconds - first) if first and seconds > first else 0.0
    print(f"\n  [first token after {first:.2f} s, then {speed:.0f} tokens/s, {total} tokens]")


def _tensor(name: str, value: str | bool) -> grpcclient.InferInput:
    is_flag = isinstance(value, bool)
    tensor = grpcclient.InferInput(name, [1], "BOOL" if is_flag else "BYTES")
    tensor.set_data_from_numpy(np.array([value if is_flag else str(value).encode()], dtype=bool if is_flag else object))
    return tensor


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Chat with a model in the cluster.")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("model")
    parser.add_argument("question")
    arguments = parser.parse_args()
    with port_forward(arguments.namespace, f"service/{arguments.model}") as address:
        chat(address, arguments.model, arguments.question, arguments.max_tokens)


if __name__ == "__main__":
    main()
