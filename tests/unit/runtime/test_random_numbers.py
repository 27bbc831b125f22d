from __future__ import annotations

from openmodel_runtime.engine.random_numbers import philox4x32, uniform


def test_known_answers() -> None:
    """Vectors of Random123, the authors' own library (kat_vectors, philox4x32-10)."""
    ones = 0xFFFFFFFF
    assert philox4x32((0, 0, 0, 0), (0, 0)) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    assert philox4x32((ones, ones, ones, ones), (ones, ones)) == (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)


def test_uniform_is_in_range_and_even() -> None:
    numbers = [uniform(2**64 - 1, position) for position in range(2000)]
    assert all(0 <= number < 1 for number in numbers)
    assert abs(sum(numbers) / len(numbers) - 0.5) < 0.02
    assert len(set(numbers)) == len(numbers)
