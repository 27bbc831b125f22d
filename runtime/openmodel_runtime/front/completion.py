"""One completion from its tokens to pieces of text: detokenize, look for stop strings, keep log-probabilities aligned.

Tokens are taken as they come and looked at when somebody wants the next piece, so whoever is slow gets larger pieces.
Knows tokens and text; knows no rank, no tensor and no clock.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import msgspec

from openmodel_runtime.front.detokenizer import Decode, IncrementalDecoder, StopScanner
from openmodel_runtime.front.sampling_parameters import Sampling
from openmodel_runtime.request import TokenOutput

# Tokens that one piece is made of at most: detokenizing more would hold up all other requests meanwhile.
MAX_PIECE_TOKENS = 256


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """What is new of a completion."""

    text: str = ""
    num_tokens: int = 0
    """New tokens; those that are held back are counted with the piece that has their text."""
    finish_reason: str = ""
    """"stop" or "length" once the completion has ended, also in pieces after its last; else ""."""
    stop_reason: str = ""
    """What ended it: a stop string or the id of a stop token; "" for the model's own end token and other ends."""
    logprobs: tuple[TokenOutput, ...] = ()
    """The new tokens, when log-probabilities are wanted."""
    cumulative_logprob: float = 0.0
    """Sum over all tokens so far, when log-probabilities are wanted."""


class Completion:
    """One completion of a request."""

    def __init__(self, sampling: Sampling, decode: Decode) -> None:
        self._sampling = sampling
        self._wants_logprobs = sampling.params.logprobs is not None
        self._decoder = IncrementalDecoder(decode)
        self._scanner = StopScanner(sampling.stop, include=sampling.include_stop) if sampling.stop else None
        # What has come and was not looked at: ids take 4 bytes each, so that a reader who stands still costs little.
        self._come = array("I")
        self._come_logprobs: list[TokenOutput] = []
        self._come_reason = ""
        self._tokens = 0
        self._told_tokens = 0
        self._untold: list[TokenOutput] = []
        self._cumulative_logprob = 0.0
        self._finish_reason = ""
        self._stop_reason = ""

    @property
    def ended(self) -> bool:
        """True once the last piece was taken."""
        return bool(self._finish_reason)

    @property
    def waiting(self) -> bool:
        """True when tokens have come that no piece was made of."""
        return bool(self._come)

    @property
    def num_tokens(self) -> int:
        """Tokens that were looked at."""
        return self._tokens

    def add(self, output: TokenOutput) -> int:
        """Takes the next token; returns how many have come that no piece was made of."""
        self._come.append(output.token)
        self._come_reason = output.finish_reason
        if self._wants_logprobs:
            self._come_logprobs.append(output)
        return len(self._come)

    def take(self) -> Piece | None:
        """The next piece of what has come, None when there is nothing to tell."""
        if not self._come or self.ended:
            return None
        tokens, self._come = self._come[:MAX_PIECE_TOKENS], self._come[MAX_PIECE_TOKENS:]
        reason = "" if self._come else self._come_reason
        before, last = self._tokens, tokens.pop()
        texts = []
        for token in tokens:
            texts.append(self._look(token, ""))
            if self._finish_reason:
                break
        else:
            texts.append(self._look(last, reason))
        self._note_logprobs(self._tokens - before)
        if self._finish_reason:
            # Tokens after a stop string are nobody's.
            self._come = array("I")
            self._come_logprobs = []
        text = "".join(texts)
        if not text and not self._finish_reason:
            return None
        count, self._told_tokens = self._tokens - self._told_tokens, self._tokens
        return self._piece(text, count)

    def _note_logprobs(self, count: int) -> None:
        if self._wants_logprobs:
            outputs = self._come_logprobs[:count]
            del self._come_logprobs[:count]
            self._untold += outputs
            self._cumulative_logprob += sum([output.logprob or 0.0 for output in outputs])

    def nothing_new(self) -> Piece:
        """A piece for a response that another completion has news for."""
        return self._piece("", 0)

    def _piece(self, text: str, count: int) -> Piece:
        untold: tuple[TokenOutput, ...] = ()
        if count and self._untold:
            untold, self._untold = tuple(self._untold), []
        return Piece(
            text=text,
            num_tokens=count,
            finish_reason=self._finish_reason,
            stop_reason=self._stop_reason,
            logprobs=untold,
            cumulative_logprob=self._cumulative_logprob,
        )

    def _look(self, token: int, reason: str) -> str:
        """The text that a token makes safe to give out; `reason` when it is the rank's last."""
        self._tokens += 1
        if not reason:
            text = self._decoder.push(token)
            return text if self._scanner is None else self._scan(self._scanner, text, reason)
        if reason == "stop" and token in self._sampling.params.stop_token_ids:
            self._stop_reason = str(token)
        # vLLM's rule: what ends a completion is not part of its text, be it a string or a token.
        shown = reason != "stop" or self._sampling.include_stop
        text = (self._decoder.push(token) if shown else "") + self._decoder.flush()
        if self._scanner is not None:
            return self._scan(self._scanner, text, reason)
        self._finish_reason = reason
        return text

    def _scan(self, scanner: StopScanner, text: str, reason: str) -> str:
        text = scanner.push(text, look=self._tokens > self._sampling.params.min_tokens)
        if scanner.found is not None:
            self._finish_reason, self._stop_reason = "stop", scanner.found
            return text
        self._finish_reason = reason
        return text + scanner.flush() if reason else text


def join_pieces(pieces: Sequence[Piece], before: str = "") -> Piece:
    """One piece that says what several of a completion say, in order, at least one; `before` stands before its text."""
    last = pieces[-1]
    return Piece(
        text=before + "".join([piece.text for piece in pieces]),
        num_tokens=sum(piece.num_tokens for piece in pieces),
        finish_reason=last.finish_reason,
        stop_reason=last.stop_reason,
        logprobs=tuple(output for piece in pieces for output in piece.logprobs),
        cumulative_logprob=last.cumulative_logprob,
    )
