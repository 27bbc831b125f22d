"""Prompts of an exact length out of real English text: every one is new, so that no prefix cache has seen it.

Knows where a machine keeps licence texts, and the checkpoint's tokenizer; knows no engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

PROMPT_TOKENS = 128
# Debian and its kin have these; the repository's own licence is there always.
_LICENCES = Path("/usr/share/common-licenses")
_FIRST = "GPL-3"
_OWN = Path(__file__).resolve().parents[3] / "LICENSE"
# The next prompt starts so many tokens later: prompts overlap, which hurts no cache that matches from the start on.
_STRIDE = 11
# No two prompts begin with the same so many tokens: no cache keeps shorter pieces.
_HEAD_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Prompt:
    """The same prompt in both forms: the text makes exactly these ids."""

    text: str
    ids: tuple[int, ...]


class PromptSource:
    """Hands out prompts, none of them twice."""

    def __init__(self, checkpoint: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
        self._prompts = self._all()

    def take(self, count: int) -> list[Prompt]:
        """The next prompts."""
        prompts = [prompt for _, prompt in zip(range(count), self._prompts, strict=False)]
        if len(prompts) < count:
            raise RuntimeError(f"the texts in {_LICENCES} are too short for so many prompts")
        return prompts

    def text(self, ids: list[int]) -> str:
        """What the ids say."""
        return self._tokenizer.decode(ids, skip_special_tokens=True)

    def _all(self) -> Iterator[Prompt]:
        seen: set[tuple[int, ...]] = set()
        for path in _texts():
            ids = self._tokenizer.encode(path.read_text(encoding="utf-8", errors="ignore")).ids
            start = 0
            while start + PROMPT_TOKENS <= len(ids):
                piece = tuple(ids[start : start + PROMPT_TOKENS])
                text = self._tokenizer.decode(list(piece))
                if piece[:_HEAD_TOKENS] in seen or tuple(self._tokenizer.encode(text).ids) != piece:
                    # Licences quote one another, and a cut inside of a word may be merged another way: try the next.
                    start += 1
                    continue
                seen.add(piece[:_HEAD_TOKENS])
                yield Prompt(text, piece)
                start += _STRIDE


def _texts() -> list[Path]:
    files = {path.resolve() for path in _LICENCES.glob("*") if path.is_file()} | {_OWN}
    return sorted(files, key=lambda path: (path.name != _FIRST, path.name))
