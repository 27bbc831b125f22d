"""How a peer talks: one JSON line when it is ready, then one JSON line for each round that it is asked for.

    > {"ready": true, "version": "...", "settings": {...}}
    < {"prompts": [[1, 2, ...], ...], "max_tokens": 128}
    > {"seconds": ..., "first_token_s": ..., "step_s": ..., "tokens": ..., "heads": [[first ids of each answer], ...]}

A peer that fails says {"error": "..."} and ends. Only the standard library: this runs in every peer's environment.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from bench.measure.timeline import Arrival, summarize

HEAD_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Options:
    """What every peer is told."""

    model: Path
    """Folder of the checkpoint, or the file that was made of it."""
    threads: int
    max_streams: int
    max_tokens: int
    """Tokens that one stream may have, prompt and completion."""


@dataclass(slots=True)
class Recorder:
    """Notes when each stream's tokens came, and the first of them."""

    streams: int
    began: float = field(default_factory=time.perf_counter)
    arrivals: list[list[Arrival]] = field(init=False)
    heads: list[list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self.arrivals = [[] for _ in range(self.streams)]
        self.heads = [[] for _ in range(self.streams)]

    def tokens(self, first_stream: int, tokens: Sequence[int]) -> None:
        """One new token for each of the streams from `first_stream` on."""
        now = time.perf_counter()
        for stream, token in enumerate(tokens, start=first_stream):
            self.arrivals[stream].append((now, 1))
            if len(self.heads[stream]) < HEAD_TOKENS:
                self.heads[stream].append(int(token))

    def answer(self) -> dict[str, Any]:
        """The round's answer."""
        return {**asdict(summarize(self.began, self.arrivals)), "heads": self.heads}


Generate = Callable[[Sequence[Sequence[int]], int], Recorder]
"""Prompts and the number of new tokens for each; EOS does not end a stream."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A peer that has loaded its model."""

    version: str
    settings: dict[str, Any]
    generate: Generate


def serve(start: Callable[[Options], Engine]) -> None:
    """The whole life of a peer's process."""
    talk = _take_standard_output()
    try:
        engine = start(_options())
        engine.generate([range(1000, 1032)], 2)
        _say(talk, {"ready": True, "version": engine.version, "settings": engine.settings})
        for line in sys.stdin:
            asked = json.loads(line)
            _say(talk, engine.generate(asked["prompts"], asked["max_tokens"]).answer())
    except Exception as error:
        _say(talk, {"error": f"{type(error).__name__}: {error}"})
        raise


def _take_standard_output() -> IO[str]:
    """What engines print must not mix with the answers: it goes to standard error."""
    talk = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return talk


def _say(talk: IO[str], message: dict[str, Any]) -> None:
    talk.write(json.dumps(message) + "\n")
    talk.flush()


def _options() -> Options:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    for name in ("threads", "max-streams", "max-tokens"):
        parser.add_argument(f"--{name}", type=int, required=True)
    return Options(**vars(parser.parse_args()))
