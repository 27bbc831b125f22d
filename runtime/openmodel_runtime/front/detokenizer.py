"""Token ids to text, as they come.

A token may be part of a character, and a piece of text may be the start of a stop string: both are held back until it
is clear what they are. Knows text and ids; knows no request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]
_REPLACEMENT = "\ufffd"
# A character has four bytes at most, and a token one at least.
_MAX_CHARACTER_TOKENS = 4
# Beyond, what is held back is no character: holding more would make each token dearer than the one before.
_MAX_HELD_TOKENS = 16


class IncrementalDecoder:
    """Decodes a growing sequence of tokens; the pieces joined are the text of all tokens."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        # Text up to `_read` is emitted. Decoding starts a little earlier, at `_prefix`, because the text of a token
        # can depend on the one before it (a leading space).
        self._prefix = 0
        self._read = 0

    def push(self, token: int) -> str:
        """The text that the token completes; "" while a character is incomplete."""
        self._tokens.append(token)
        return self._take(final=False)

    def flush(self) -> str:
        """What is left at the end, incomplete characters included."""
        return self._take(final=True)

    def _take(self, final: bool) -> str:
        before = self._decode(self._tokens[self._prefix : self._read])
        after = self._decode(self._tokens[self._prefix :])
        end = len(self._tokens)
        too_many = end - self._read > _MAX_HELD_TOKENS
        if after.endswith(_REPLACEMENT) and not final:
            if not too_many:
                return ""
            end -= _MAX_CHARACTER_TOKENS - 1
            after = self._decode(self._tokens[self._prefix : end])
        if len(after) <= len(before):
            if too_many:
                # Special tokens, whose text is left out.
                del self._tokens[self._read : end]
            return ""
        self._prefix, self._read = self._read, end
        return after[len(before) :]


class StopScanner:
    """Finds stop strings in text that comes in pieces."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self.stopped = False
        """True once a stop string was found; no more text comes."""

    def push(self, piece: str) -> str:
        """The text that is safe to give out: before a stop string, and not the start of one."""
        text = self._held + piece
        found = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back, once no more text comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
