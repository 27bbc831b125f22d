"""Token ids to text, as they come.

A token may be part of a character, and a piece of text may be the start of a stop string: both are held back until it
is clear what they are. The text depends on the tokens alone, not on how many come at a time. Knows text and ids; knows
no request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]
_REPLACEMENT = "\ufffd"
# Beyond, what is held back is no character: holding more would make each token dearer than the one before.
_MAX_HELD_TOKENS = 16
# Tokens that are decoded again with each new one. More would cost more a token, fewer would be cut off more often.
_MAX_WINDOW_TOKENS = 6
# A character has four bytes at most, and a token with text one at least.
_MAX_CHARACTER_TOKENS = 4


class IncrementalDecoder:
    """Decodes a growing sequence of tokens; the pieces joined are the text of all tokens.

    It decodes the last few tokens, once for each new one, and gives out what its text has more than before. They begin
    where a piece began, because the text of a token can depend on the one before it (a leading space, a byte).
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._window: list[int] = []
        # Of the window: where the last piece began, tokens whose text is given out, and characters given out.
        self._piece = 0
        self._read = 0
        self._shown = 0

    def push(self, token: int) -> str:
        """The text that the token completes; "" while a character is incomplete."""
        window = self._window
        window.append(token)
        text = self._decode(window)
        if text.endswith(_REPLACEMENT):
            return self._give_up(text) if len(window) - self._read > _MAX_HELD_TOKENS else ""
        piece = text[self._shown :]
        if piece:
            self._piece, self._read, self._shown = self._read, len(window), len(text)
        elif len(window) - self._read > _MAX_HELD_TOKENS:
            # Special tokens, whose text is left out.
            del window[self._read :]
        if len(window) > _MAX_WINDOW_TOKENS:
            self._cut(self._piece)
        return piece

    def flush(self) -> str:
        """What is left at the end, incomplete characters included."""
        return self._decode(self._window)[self._shown :]

    def _cut(self, start: int) -> None:
        """Begins the window later, at a token from which on the text is known to be whole."""
        del self._window[:start]
        self._read -= start
        self._piece = 0
        self._shown = len(self._decode(self._window[: self._read]))

    def _give_up(self, text: str) -> str:
        """Bytes that are no characters, too many to wait for: only the last of them can still become one."""
        piece = text[self._shown : -1]
        self._window = [token for token in self._window if self._decode([token])][-_MAX_CHARACTER_TOKENS:]
        self._piece, self._read = 0, len(self._window) - 1
        self._shown = len(self._decode(self._window)) - 1
        return piece


class StopScanner:
    """Finds stop strings in text that comes in pieces."""

    def __init__(self, stop: Sequence[str], *, include: bool = False) -> None:
        self._stop = tuple(stop)
        self._include = include
        self._held = ""
        self.found: str | None = None
        """The stop string that was found; no more text comes then."""

    def push(self, piece: str, *, look: bool = True) -> str:
        """The text that is safe to give out: before a stop string, and not the start of one.

        Without `look`, no stop string ends within the piece, whatever it says.
        """
        text = self._held + piece
        if look:
            found = [(at, stop) for stop in self._stop if (at := text.find(stop)) >= 0]
            if found:
                # Of two at the same place the first one of the list.
                at, self.found = min(found, key=lambda each: each[0])
                self._held = ""
                return text[: at + len(self.found)] if self._include else text[:at]
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
