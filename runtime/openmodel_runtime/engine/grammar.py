"""Which tokens a completion may go on with, where its caller asked for structure.

llguidance compiles grammars and computes masks. A completion has a matcher of its own: what it may say next follows
from its grammar and its own tokens, whoever is served beside it. Limits are counts of work, not times, so that a
grammar is refused on every machine or on none. Knows token ids; knows no logits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from llguidance import LLExecutor, LLMatcher, LLParserLimits, LLTokenizer
from numpy.typing import NDArray

from openmodel_runtime.errors import InvalidRequest

# Where the defaults let an ambiguous grammar take half a second for one token, these end it at some milliseconds; the
# schema of an object with a thousand properties passes.
_LIMITS = LLParserLimits(
    max_items_in_row=300,
    initial_lexer_fuel=500_000,
    step_lexer_fuel=50_000,
    step_max_items=20_000,
    max_lexer_states=20_000,
    max_grammar_size=50_000,
    verbose_errors=False,
)
# A service asks for the same few structures over and over.
_REMEMBERED_GRAMMARS = 64
_MESSAGE_CHARACTERS = 300


Mask = NDArray[np.uint8]
"""The tokens that may come next: one bit a token, least significant bit first."""


class GrammarMatcher:
    """Where one completion stands in its grammar. Not thread-safe: one thread at a time asks."""

    def __init__(self, matcher: LLMatcher, vocab_size: int) -> None:
        self.inner = matcher
        self.vocab_size = vocab_size
        self._consumed = 0

    def follow(self, completion: Sequence[int]) -> None:
        """Goes on to the end of the completion, which has grown since it was last followed, or is the same."""
        self.inner.consume_tokens(list(completion[self._consumed :]))
        self._consumed = len(completion)

    def check(self) -> None:
        """InvalidRequest when the grammar needed more work for a token than one may take."""
        _check(self.inner)

    def copy(self) -> GrammarMatcher:
        """Another at the grammar's start; this one must be there too."""
        assert self._consumed == 0
        return GrammarMatcher(self.inner.deep_copy(), self.vocab_size)


def compute_masks(executor: LLExecutor, matchers: Sequence[GrammarMatcher]) -> list[Mask]:
    """The tokens that may follow in each, in one call: the interpreter's lock is free meanwhile."""
    octets = 4 * -(-max(matcher.vocab_size for matcher in matchers) // 32)
    masks = np.zeros((len(matchers), octets), np.uint8)
    numbered = [(matcher.inner, row) for row, matcher in enumerate(matchers)]
    executor.unsafe_compute_mask_ptr(numbered, masks.ctypes.data, octets, len(matchers))
    return list(masks)


class GrammarCompiler:
    """Makes matchers for one model's tokens. Not thread-safe: one thread owns it."""

    def __init__(self, new_tokenizer: Callable[[], LLTokenizer]) -> None:
        """`new_tokenizer` takes a second for a large vocabulary, so it is called when it is first needed."""
        self._new_tokenizer = new_tokenizer
        self._tokenizer: LLTokenizer | None = None
        self._known: OrderedDict[str, GrammarMatcher] = OrderedDict()

    def compile(self, grammar: str) -> GrammarMatcher:
        """A matcher at the start of a grammar in llguidance's words; InvalidRequest says what is wrong with it."""
        if grammar not in self._known:
            if self._tokenizer is None:
                self._tokenizer = self._new_tokenizer()
            matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=_LIMITS)
            # What is worked out for the first token is worked out once, not by every copy.
            matcher.compute_bitmask()
            _check(matcher)
            self._known[grammar] = GrammarMatcher(matcher, self._tokenizer.vocab_size)
        self._known.move_to_end(grammar)
        if len(self._known) > _REMEMBERED_GRAMMARS:
            self._known.popitem(last=False)
        return self._known[grammar].copy()


def _check(matcher: LLMatcher) -> None:
    if matcher.is_error():
        message = " ".join(matcher.get_error().replace("<non-verbose/>", "").split())
        raise InvalidRequest(f"structured_outputs: {message[:_MESSAGE_CHARACTERS]}")
