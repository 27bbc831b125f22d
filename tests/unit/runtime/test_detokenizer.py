from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers

from checkpoints import SPECIAL_TOKENS, VOCABULARY, tiny_tokenizer
from openmodel_runtime.front.detokenizer import IncrementalDecoder, StopScanner


def byte_decode(tokens: Sequence[int]) -> str:
    """A tokenizer with one token a byte: the hardest case for pieces."""
    return bytes(tokens).decode(errors="replace")


@given(st.text())
def test_pieces_joined_are_the_text(text: str) -> None:
    decoder = IncrementalDecoder(byte_decode)
    pieces = [decoder.push(byte) for byte in text.encode()]
    assert "".join(pieces) + decoder.flush() == text


@given(st.binary())
def test_any_bytes_end_as_the_whole_decoding(data: bytes) -> None:
    decoder = IncrementalDecoder(byte_decode)
    pieces = [decoder.push(byte) for byte in data]
    assert "".join(pieces) + decoder.flush() == byte_decode(list(data))


@given(st.lists(st.sampled_from([0x80, 0xC3, 0xE4, 0xB8, 0xF0, 0x9F]), max_size=80), st.text(max_size=5))
def test_bytes_that_are_no_characters_do_not_spoil_those_that_are(rubbish: list[int], text: str) -> None:
    """However long the rubbish, which is given up at some point, and whatever it ends in."""
    data = [*rubbish, *text.encode()]
    decoder = IncrementalDecoder(byte_decode)
    assert "".join([decoder.push(byte) for byte in data]) + decoder.flush() == byte_decode(data)


TINY = tiny_tokenizer()


@pytest.mark.parametrize("skip", [True, False])
@given(tokens=st.lists(st.integers(0, VOCABULARY - 1) | st.integers(0, len(SPECIAL_TOKENS) - 1), max_size=100))
def test_any_tokens_end_as_the_whole_decoding(skip: bool, tokens: list[int]) -> None:
    """Special tokens, among them, have a text or none."""

    def decode(some: Sequence[int]) -> str:
        return TINY.decode(some, skip_special_tokens=skip)

    decoder = IncrementalDecoder(decode)
    assert "".join([decoder.push(token) for token in tokens]) + decoder.flush() == decode(tokens)


def byte_fallback_tokenizer() -> Tokenizer:
    """As Llama 2's and Mistral's: spaces belong to the words after them, and what is no word is bytes."""
    words = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", "a", "\u2581a", "b", "\u2581b", "."]
    vocabulary = {word: index for index, word in enumerate(words)}
    merges = [("\u2581", "a"), ("\u2581", "b")]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


FALLBACK = byte_fallback_tokenizer()


@given(st.text(st.sampled_from("ab. \u4e16\u00e9\U0001f600")))
def test_characters_of_byte_tokens_and_leading_spaces_are_right(text: str) -> None:
    tokens = FALLBACK.encode(text).ids
    decoder = IncrementalDecoder(FALLBACK.decode)
    assert "".join([decoder.push(token) for token in tokens]) + decoder.flush() == FALLBACK.decode(tokens)


def test_no_piece_shows_half_a_character() -> None:
    decoder = IncrementalDecoder(byte_decode)
    assert [decoder.push(byte) for byte in "é".encode()] == ["", "é"]


def scanned(scanner: StopScanner, pieces: Sequence[str]) -> str:
    """All that the scanner gives out."""
    given_out = ""
    for piece in pieces:
        given_out += scanner.push(piece)
        if scanner.found is not None:
            return given_out
    return given_out + scanner.flush()


@given(st.text("abc"), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.integers(1, 4), st.booleans())
def test_stop_strings_cut_exactly(text: str, stop: list[str], size: int, include: bool) -> None:
    scanner = StopScanner(stop, include=include)
    given_out = scanned(scanner, [text[start : start + size] for start in range(0, len(text), size)])
    found = [at for at in (text.find(word) for word in stop) if at >= 0]
    if not found:
        assert (given_out, scanner.found) == (text, None)
        return
    assert scanner.found in stop
    before = given_out.removesuffix(scanner.found) if include else given_out
    assert text.startswith(before + scanner.found)
    assert include == given_out.endswith(scanner.found) or not include
    assert not any(word in before for word in stop)


def test_a_stop_string_that_ends_where_nobody_looks_passes() -> None:
    scanner = StopScanner(["ab"])
    assert scanner.push("xabx", look=False) == "xabx"
    # One that only begins there is found.
    assert (scanner.push("xa", look=False), scanner.push("b"), scanner.found) == ("x", "", "ab")


@given(st.integers(0, 255), st.booleans(), st.text(min_size=1, max_size=5))
def test_no_run_of_tokens_makes_the_next_one_dearer(byte: int, special: bool, text: str) -> None:
    """Neither bytes that are no character, nor special tokens, which have no text."""
    longest = 0

    def decode(tokens: Sequence[int]) -> str:
        nonlocal longest
        longest = max(longest, len(tokens))
        return byte_decode([token for token in tokens if token < 256])

    decoder = IncrementalDecoder(decode)
    run = "".join(decoder.push(256 if special else byte) for _ in range(500))
    end = "".join(decoder.push(token) for token in text.encode()) + decoder.flush()
    assert longest < 64
    # The text after the run is whole.
    assert (run + end).endswith(text)
    assert run == "" or not special
