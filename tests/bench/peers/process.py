"""A peer at work: its process, asked for rounds one line at a time.

It stands still but while it is asked, so that it takes nothing from whoever is measured meanwhile.
"""

from __future__ import annotations

import json
import selectors
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measure.child import Child
from bench.measure.timeline import Round
from bench.peers.catalog import ROOT, Peer

_READY_SECONDS = 900.0
_ROUND_SECONDS = 900.0


class PeerFailed(Exception):
    """A peer that ended, hung or refused; the text says why."""


@dataclass(frozen=True, slots=True)
class PeerRound:
    """A peer's figures, and the first ids of each of its answers."""

    figures: Round
    heads: list[list[int]]


class PeerProcess(Child):
    """One peer with one model."""

    def __init__(self, peer: Peer, model: Path, log: Path, *, threads: int, max_streams: int, max_tokens: int) -> None:
        flags = [f"--threads={threads}", f"--max-streams={max_streams}", f"--max-tokens={max_tokens}"]
        super().__init__(
            [peer.python, "-m", peer.module, f"--model={model}", *flags],
            log,
            cwd=ROOT / "tests",
            environment={**peer.environment(peer.folder, threads), "PYTHONPATH": str(ROOT / "tests")},
            talks=True,
        )
        self.name = peer.name
        self.version = ""
        self.settings: dict[str, Any] = {}

    def wait_until_ready(self) -> float:
        """Seconds from the start of the process until it had answered a first prompt."""
        ready = self._listen(_READY_SECONDS)
        seconds = time.monotonic() - self.began
        self.version, self.settings = ready["version"], ready["settings"]
        self.pause()
        return seconds

    def round(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> PeerRound:
        """One round: it stands still before and after."""
        asked = {"prompts": [list(prompt) for prompt in prompts], "max_tokens": max_tokens}
        self.resume()
        try:
            self.input.write(json.dumps(asked).encode() + b"\n")
            self.input.flush()
            answer = self._listen(_ROUND_SECONDS)
        except OSError as error:
            raise PeerFailed(f"it ended: {error}; {self.last_words()}") from error
        finally:
            self.pause()
        heads = answer.pop("heads")
        figures = Round(**answer)
        if figures.tokens != len(prompts) * max_tokens:
            raise PeerFailed(f"it gave {figures.tokens} tokens instead of {len(prompts) * max_tokens}")
        return PeerRound(figures, heads)

    def _listen(self, limit_seconds: float) -> dict[str, Any]:
        with selectors.DefaultSelector() as selector:
            selector.register(self.output, selectors.EVENT_READ)
            if not selector.select(limit_seconds):
                raise PeerFailed(f"it said nothing for {limit_seconds:.0f} s; {self.last_words()}")
        line = self.output.readline()
        if not line:
            raise PeerFailed(f"it ended; {self.last_words()}")
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            raise PeerFailed(message["error"])
        return message
