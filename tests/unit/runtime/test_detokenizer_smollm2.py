"""Incremental detokenizing with a real model's tokenizer: any tokens at all, as a hot model may sample them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from openmodel_runtime.front.detokenizer import IncrementalDecoder

ROOT = Path(__file__).resolve().parents[3]
# The tokens of single bytes come first, after the special ones: parts of characters follow one another often.
SPECIAL, BYTES, ALL = 17, 300, 49_152


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    build = [sys.executable, str(ROOT / "hack/models/build.py")]
    models = Path(subprocess.run(build, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
    return Tokenizer.from_file(str(models / "smollm2-135m-instruct/tokenizer.json"))


@pytest.mark.parametrize("skip", [True, False])
@given(tokens=st.lists(st.integers(0, SPECIAL) | st.integers(0, BYTES) | st.integers(0, ALL - 1), max_size=120))
def test_pieces_joined_are_the_decoding_of_all_tokens(tokenizer: Tokenizer, skip: bool, tokens: list[int]) -> None:
    def decode(some: Sequence[int]) -> str:
        return tokenizer.decode(some, skip_special_tokens=skip)

    decoder = IncrementalDecoder(decode)
    assert "".join([decoder.push(token) for token in tokens]) + decoder.flush() == decode(tokens)
