"""Ours and a peer in turn, with the same prompts; a turn that others disturbed is taken again."""

from __future__ import annotations

from dataclasses import dataclass

from bench.measure.client import run_round
from bench.measure.comparison import OURS, Measured
from bench.measure.cpu import ForeignUse, wait_until_quiet
from bench.measure.prompts import Prompt, PromptSource
from bench.measure.runtime import RuntimeProcess
from bench.measure.timeline import Round
from bench.peers.process import PeerProcess

_QUIET_SECONDS = 10.0
# Threads that wait for one another lose far more than the share of the cores that others take.
_DISTURBED = 0.05
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Turn:
    """A round of ours and one of the peer."""

    rounds: tuple[Measured, ...]
    starts_alike: int
    """Streams whose answers begin the same."""

    @property
    def foreign_cpu(self) -> float:
        """What others used in the round that was disturbed most."""
        return max(measured.foreign_cpu for measured in self.rounds)


@dataclass(frozen=True, slots=True)
class Turns:
    """Who takes turns; without a peer it is ours alone."""

    runtime: RuntimeProcess
    peer: PeerProcess | None
    prompts: PromptSource
    model: str
    tokens: int

    def take(self, streams: int) -> Turn:
        """One turn: the least disturbed of a few where none was quiet."""
        turns: list[Turn] = []
        while len(turns) < _TRIES and (not turns or turns[-1].foreign_cpu > _DISTURBED):
            turns.append(self._take_once(self.prompts.take(streams)))
        return min(turns, key=lambda turn: turn.foreign_cpu)

    def _take_once(self, prompts: list[Prompt]) -> Turn:
        wait_until_quiet(_QUIET_SECONDS)
        use = ForeignUse((self.runtime.session,))
        ours = run_round(self.runtime.address, [prompt.text for prompt in prompts], self.tokens)
        our_round = self._measured(OURS, len(prompts), ours.figures, use)
        if self.peer is None:
            return Turn((our_round,), 0)
        wait_until_quiet(_QUIET_SECONDS)
        use = ForeignUse((self.peer.session,))
        theirs = self.peer.round([prompt.ids for prompt in prompts], self.tokens)
        their_round = self._measured(self.peer.name, len(prompts), theirs.figures, use)
        heads = map(self.prompts.text, theirs.heads)
        alike = sum(text.startswith(head) for text, head in zip(ours.texts, heads, strict=True))
        return Turn((our_round, their_round), alike)

    def _measured(self, engine: str, streams: int, figures: Round, use: ForeignUse) -> Measured:
        return Measured(
            model=self.model,
            engine=engine,
            beside=self.peer.name if self.peer else "",
            streams=streams,
            figures=figures,
            foreign_cpu=use.share(),
        )
