"""Bytes of a checkpoint, read in one go or asked for ahead."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from openmodel_runtime.checkpoint.direct_read import read_ahead, read_into
from openmodel_runtime.checkpoint.tensor_files import TensorEntry


@pytest.fixture
def entry(tmp_path: Path) -> TensorEntry:
    file = tmp_path / "weights"
    file.write_bytes(b"\0" * 8 + torch.arange(12, dtype=torch.float32).numpy().tobytes())
    return TensorEntry(file=file, dtype="F32", shape=(3, 2, 2), begin=8, end=56)


def test_a_tensor_or_one_of_its_first_dimension_is_read(entry: TensorEntry) -> None:
    whole, one = torch.empty(3, 2, 2), torch.empty(2, 2)
    assert read_into(whole, entry)
    assert read_into(one, entry, (1,))
    assert torch.equal(whole.flatten(), torch.arange(12.0))
    assert torch.equal(one, whole[1])
    assert not read_into(one, entry, (slice(0, 1),))


@pytest.mark.parametrize(("source", "asked"), [((), [(8, 48)]), ((2,), [(40, 16)]), ((slice(0, 1),), []), ((3,), [])])
def test_what_is_asked_for_ahead_is_what_will_be_read(
    entry: TensorEntry, source: tuple[int | slice, ...], asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _file, begin, size, _advice: seen.append((begin, size)))
    read_ahead(entry, source)
    assert seen == asked


def test_more_than_a_device_reads_ahead_is_asked_for_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights").touch()
    long = TensorEntry(file=tmp_path / "weights", dtype="F32", shape=(75000,), begin=100, end=300_100)
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _file, begin, size, _advice: seen.append((begin, size)))
    read_ahead(long)
    assert [begin for begin, _ in seen] == [100, 131_172, 262_244]
    assert sum(size for _, size in seen) == 300_000


def test_a_system_that_takes_no_advice_is_read_all_the_same(
    entry: TensorEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    read_ahead(entry)
    whole = torch.empty(3, 2, 2)
    assert read_into(whole, entry)
    assert torch.equal(whole.flatten(), torch.arange(12.0))
