"""Every family follows a grammar, and the same way in any company."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from llguidance import LLTokenizer, TokenizerWrapper

from generation import generate
from openmodel_runtime.config import EngineConfig
from openmodel_runtime.engine.grammar import GrammarCompiler
from openmodel_runtime.front.structured_outputs import parse_structured_outputs
from openmodel_runtime.rank.messages import Start
from openmodel_runtime.rank.startup import start_rank
from openmodel_runtime.request import SamplingParams

from .catalog import SERVED, VOCABULARY, write_served
from .test_parity import prompt

END = 0
PATTERN = "(ab|ba){3}c"


class _Bytes:
    """A vocabulary in which token n is byte n; the first one ends."""

    eos_token_id = END
    bos_token_id = None
    special_token_ids = (END,)
    tokens = (b"<end>", *(bytes([n]) for n in range(1, VOCABULARY)))

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


@pytest.mark.parametrize("name", SERVED)
def test_a_pattern_is_followed_alone_and_beside_others(name: str, tmp_path: Path) -> None:
    write_served(name, tmp_path)
    settings = EngineConfig(dtype="float32", max_model_len=200, max_num_seqs=8)
    engine = start_rank(Start(str(tmp_path), settings)).engine
    compiler = GrammarCompiler(lambda: LLTokenizer(TokenizerWrapper(_Bytes()), VOCABULARY, [END]))
    grammar = parse_structured_outputs("structured_outputs", {"regex": PATTERN})
    sampling = SamplingParams(temperature=1.0, seed=1, max_tokens=20, stop_token_ids=(END,))
    prompts = [tuple(prompt(seed, 5 + 9 * seed)) for seed in range(5)]
    together = generate(engine, prompts, sampling, lambda: compiler.compile(grammar))
    alone = [generate(engine, [each], sampling, lambda: compiler.compile(grammar))[0] for each in prompts]
    assert together == alone
    for tokens in together:
        assert tokens[-1] == END
        assert re.fullmatch(PATTERN, bytes(tokens[:-1]).decode())
