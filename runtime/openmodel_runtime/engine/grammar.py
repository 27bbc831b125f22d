"""Which tokens a completion may go on with, where its caller asked for structure.

llguidance compiles grammars and computes masks. A completion has a matcher of its own: what it may say next follows
from its grammar and its own tokens, whoever is served beside it. Limits are counts of work, not times, so that a
grammar is refused on every machine or on none. Knows token ids; knows no logits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

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


class Mask:
    """The tokens that may come next: one bit a token, least significant bit first."""

    __slots__ = ("bits",)

    def __init__(self, bits: bytes) -> None:
        self.bits = bits

    def allows(self, token: int) -> bool:
        """True when the token may come next."""
        return bool(self.bits[token >> 3] >> (token & 7) & 1)


class GrammarMatcher:
    """Where one completion stands in its grammar. Not thread-safe: one thread at a time asks."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher
        self._consumed = 0

    def mask(self, completion: Sequence[int]) -> Mask:
        """The tokens that may follow the completion, which has grown since it was last asked about, or is the same.

        Raises InvalidRequest when the grammar needs more work for it than one token may take.
        """
        self._matcher.consume_tokens(list(completion[self._consumed :]))
        self._consumed = len(completion)
        bits = self._matcher.compute_bitmask()
        _check(self._matcher)
        return Mask(bits)

    def copy(self) -> GrammarMatcher:
        """Another at the grammar's start; this one must be there too."""
        assert self._consumed == 0
        return GrammarMatcher(self._matcher.deep_copy())


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
            _check(matcher)
            self._known[grammar] = GrammarMatcher(matcher)
        self._known.move_to_end(grammar)
        if len(self._known) > _REMEMBERED_GRAMMARS:
            self._known.popitem(last=False)
        return self._known[grammar].copy()


def _check(matcher: LLMatcher) -> None:
    if matcher.is_error():
        message = " ".join(matcher.get_error().replace("<non-verbose/>", "").split())
        raise InvalidRequest(f"structured_outputs: {message[:_MESSAGE_CHARACTERS]}")
