"""Asks a model in the cluster and prints its answer as it comes, with the time to the first token and the speed after.

Only the port-forward is for being outside of the cluster.
"""

from __future__ import annotations

import argparse

from model_client import stream
from port_forward import port_forward


def chat(address: str, model: str, question: str, max_tokens: int) -> None:
    """Streams one answer to standard output."""
    print(f"\n{model}: ", end="")
    messages = [{"role": "user", "content": question}]
    pieces = []
    for piece in stream(address, model, messages, temperature=0, max_tokens=max_tokens):
        print(piece.text, end="", flush=True)
        pieces.append(piece)
    total = sum(piece.tokens for piece in pieces)
    first, last = pieces[0].seconds, pieces[-1].seconds
    speed = (total - pieces[0].tokens) / (last - first) if last > first else 0.0
    print(f"\n  [first token after {first:.2f} s, then {speed:.0f} tokens/s, {total} tokens]")


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
