"""Tokens per second and time to the first token, through gRPC, of the models that `make demo` leaves in the cluster.

Each stream asks for a whole answer of fixed length, as many streams at once as the row says; one row is the median of
its rounds. The client runs on the same machine and takes part of its processors: these are figures of a whole path, not
of an engine.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from bench.report import plot, write_result
from model_client import Piece, stream
from port_forward import port_forward

NAMESPACE = "demo"
MODELS = ("smollm2", "smollm2-moe")
_PROMPT = (
    "The General Public License is a free, copyleft licence for software and other kinds of works. Explain to a "
    "friend, in plain words, what it gives to the people who use a program, what it asks of those who change it and "
    "pass it on, and why anyone would choose it for their own work."
)


def main() -> None:
    """Measures, prints and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and shorter answers")
    quick = parser.parse_args().quick
    tokens, rounds, streams = (32, 1, (1, 4)) if quick else (128, 3, (1, 4, 16))
    rows = []
    for model in MODELS:
        with _address(model) as (address, way):
            _round(address, model, 1, 8)  # warms up
            for count in streams:
                measured = [_round(address, model, count, tokens) for _ in range(rounds)]
                row = {
                    "model": model,
                    "streams": count,
                    "tokens_per_s": round(statistics.median(item[0] for item in measured), 1),
                    "first_token_s": round(statistics.median(item[1] for item in measured), 3),
                }
                rows.append(row)
                print(row, flush=True)
    settings = {"tokens": tokens, "rounds": rounds, "way": way, "prompt_characters": len(_PROMPT)}
    print(write_result("serve", rows, settings=settings))
    panels = {"tokens_per_s": "tokens/s, all streams", "first_token_s": "first token, s (mean)"}
    print(plot("serve", rows, "streams", panels))


def _round(address: str, model: str, streams: int, tokens: int) -> tuple[float, float]:
    """Tokens per second of all streams together, and the mean time to the first token."""
    began = time.monotonic()
    with ThreadPoolExecutor(streams) as pool:
        answers = list(pool.map(lambda _: _answer(address, model, tokens), range(streams)))
    seconds = time.monotonic() - began
    total = sum(piece.tokens for answer in answers for piece in answer)
    if total != streams * tokens:
        raise RuntimeError(f"{model} gave {total} tokens instead of {streams * tokens}")
    return total / seconds, statistics.mean(answer[0].seconds for answer in answers)


def _answer(address: str, model: str, tokens: int) -> list[Piece]:
    return list(stream(address, model, _PROMPT, temperature=0, max_tokens=tokens, ignore_eos=True))


@contextmanager
def _address(model: str) -> Iterator[tuple[str, str]]:
    """The Service itself where this machine can reach it, else a port-forward."""
    query = ["kubectl", "get", "service", model, "-n", NAMESPACE, "-o", "jsonpath={.spec.clusterIP}"]
    host = subprocess.run(query, check=True, capture_output=True, text=True).stdout
    try:
        socket.create_connection((host, 8001), timeout=2).close()
    except OSError:
        with port_forward(NAMESPACE, f"service/{model}") as address:
            yield address, "port-forward"
    else:
        yield f"{host}:8001", "service"


if __name__ == "__main__":
    main()
