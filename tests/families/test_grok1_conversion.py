"""Grok-1's own pickles become a checkpoint that is served; what is in them is never done."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from openmodel_fetch.array_pickles import Quantized, read_arrays
from openmodel_fetch.grok1 import GrokShape, convert_grok1
from openmodel_fetch.main import main
from openmodel_kernels.cpu.kernels import CpuKernels
from openmodel_runtime.errors import CheckpointError

from . import grok1_reference as grok1
from .ours import Sequences, load
from .test_parity import assert_close, prompt

# More than ten, so that their order as text is another than their order.
SMALL = grok1.Grok1Shape(layers=11)
GROUPS = {"attn.o_proj": 8, "linear_1": 8}


@dataclass
class QuantizedWeight8bit:
    """As xAI's program has it."""

    weight: Any
    scales: Any


class bfloat16:  # noqa: N801 - its name is what the pickle has
    """As ml_dtypes has it."""


class Bfloat16:
    """Its dtype, as numpy pickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return np.dtype, (bfloat16, False, True), (3, "<", None, None, None, 2, 2, 64)


@dataclass
class Bfloat16Array:
    """An array of it, as numpy pickles it."""

    numbers: Tensor

    def __reduce__(self) -> tuple[Any, ...]:
        octets = self.numbers.contiguous().view(torch.uint8).numpy().tobytes()
        reduced: Any = np.zeros(1).__reduce__()
        return reduced[0], reduced[1], (1, tuple(self.numbers.shape), Bfloat16(), False, octets)


def quantized(matrix: Tensor, groups: int) -> tuple[QuantizedWeight8bit, Tensor]:
    """A matrix, input by output, in eight bits, and what that is in bfloat16."""
    rows, columns = matrix.shape[-2:]
    grouped = matrix.reshape(*matrix.shape[:-2], groups, rows // groups, columns)
    scales = (grouped.abs().amax(-2, keepdim=True) / 127).to(torch.bfloat16)
    weight = (grouped / scales.float()).round().clamp(-127, 127).to(torch.int8)
    expanded = (weight.float() * scales.float()).to(torch.bfloat16).reshape(matrix.shape)
    rows_together = weight.reshape(matrix.shape).contiguous().numpy()
    return QuantizedWeight8bit(rows_together, Bfloat16Array(scales.squeeze(-2))), expanded


def publish(folder: Path) -> dict[str, Tensor]:
    """Writes `ckpt-0` with random weights; returns what they come to, by the Hub's names."""
    given = grok1.make_weights(SMALL)
    exact: dict[str, Tensor] = {}
    files: list[Any] = [given[name].numpy() for name in ("model.embed_tokens.weight", "model.norm.scale")]
    for block in sorted(range(SMALL.layers), key=str):
        name = f"model.layers.{block}"
        for part in ("linear", "linear_1", "linear_v"):
            names = [f"{name}.moe_block.experts.{index}.{part}.weight" for index in range(SMALL.experts)]
            held, expanded = quantized(torch.stack([given[each].T for each in names]), GROUPS.get(part, 1))
            files.append(held)
            exact |= {each: matrix.T for each, matrix in zip(names, expanded, strict=True)}
        for part in ("k", "o", "q", "v"):
            full = f"{name}.attn.{part}_proj.weight"
            held, expanded = quantized(given[full].T, GROUPS.get(f"attn.{part}_proj", 1))
            files.append(held)
            exact[full] = expanded.T
        for part in ("pre_attn_norm", "post_attn_norm", "pre_moe_norm", "post_moe_norm"):
            files.append(given[f"{name}.{part}.scale"].numpy())
        files.append(given[f"{name}.moe_block.gate.weight"].T.contiguous().numpy())
    folder.mkdir()
    for number, held in enumerate(files):
        with (folder / f"tensor{number:05d}_000").open("wb") as file:
            pickle.dump(held, file, protocol=4)
    return {name: exact.get(name, weight.to(torch.bfloat16)).float() for name, weight in given.items()}


SHAPE = GrokShape(heads=SMALL.heads, kv_heads=SMALL.kv_heads, blocks=SMALL.layers)


def test_what_was_published_is_served_as_it_was_meant(tmp_path: Path) -> None:
    weights = publish(tmp_path / "ckpt-0")
    parameters = convert_grok1(tmp_path / "ckpt-0", tmp_path / "model", SHAPE)
    assert parameters == sum(weight.numel() for weight in weights.values())
    ours = load(tmp_path / "model", CpuKernels(), torch.float32)
    assert_close(Sequences(ours, 1).run([prompt()])[0], grok1.logits(SMALL, weights, prompt()))


def test_a_run_that_was_broken_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path / "ckpt-0")
    last = tmp_path / "ckpt-0/tensor00133_000"
    moved = last.rename(tmp_path / "elsewhere")
    last.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="tensor00133_000"):
        convert_grok1(tmp_path / "ckpt-0", tmp_path / "model", SHAPE)
    assert not (tmp_path / "model/model.safetensors.index.json").exists()
    moved.rename(last)
    read: list[str] = []

    def noted(path: Path) -> Tensor | Quantized:
        read.append(path.name)
        return read_arrays(path)

    monkeypatch.setattr("openmodel_fetch.grok1.read_arrays", noted)
    convert_grok1(tmp_path / "ckpt-0", tmp_path / "model", SHAPE)
    assert read == [last.name]
    assert (tmp_path / "model/model.safetensors.index.json").exists()


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (os.system, "posix.system, which no array of numbers needs"),
        (["a list"], "holds a list"),
        (np.zeros(3), "another form"),
        (np.asfortranarray(np.zeros((2, 3), np.float32)), "another form"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(held: object, words: str, tmp_path: Path) -> None:
    path = tmp_path / "tensor00000_000"
    path.write_bytes(pickle.dumps(held, protocol=4))
    with pytest.raises(CheckpointError, match=words):
        read_arrays(path)


def test_what_a_pickle_asks_for_is_not_done(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "made"),)

    path = tmp_path / "tensor00000_000"
    path.write_bytes(pickle.dumps(QuantizedWeight8bit(Attack(), Attack()), protocol=4))
    with pytest.raises(CheckpointError, match="mkdir"):
        read_arrays(path)
    assert not (tmp_path / "made").exists()


def test_the_program_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ckpt-0").mkdir()
    told = main(["convert-grok-1", f"--checkpoint={tmp_path}/ckpt-0", f"--to={tmp_path}/model"])
    assert told == 78
    assert json.loads(capsys.readouterr().err)["message"].endswith("770 of 770 files are missing")
