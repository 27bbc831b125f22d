from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

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
    whole = "".join(pieces) + decoder.flush()
    assert whole.replace("\ufffd", "") == byte_decode(list(data)).replace("\ufffd", "")


def test_no_piece_shows_half_a_character() -> None:
    decoder = IncrementalDecoder(byte_decode)
    assert [decoder.push(byte) for byte in "é".encode()] == ["", "é"]


@given(st.text("abc"), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.integers(1, 4))
def test_stop_strings_cut_exactly(text: str, stop: list[str], size: int) -> None:
    scanner = StopScanner(stop)
    given_out = ""
    for start in range(0, len(text), size):
        given_out += scanner.push(text[start : start + size])
        if scanner.stopped:
            break
    if not scanner.stopped:
        given_out += scanner.flush()
    found = [at for at in (text.find(word) for word in stop) if at >= 0]
    if not found:
        assert given_out == text
    else:
        assert scanner.stopped
        assert text.startswith(given_out)
        assert not any(word in given_out for word in stop)


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
