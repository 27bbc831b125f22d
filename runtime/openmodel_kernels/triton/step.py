"""A step's sequences as the attention kernels read them: integers that are copied to the device once for all layers.

T rows of the step, B sequences.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from openmodel_kernels.interface import SequenceRows
from openmodel_kernels.triton.jit import device_function

BLOCK_TOKENS = 32
# Tiles of queries are found by these among the sequences.
_SEARCH = tl.constexpr(128)
# What a kernel must not be compiled anew for: names of arguments.
STEP_ARGUMENTS = ("step_ptr", "owner_ptr", "tables_ptr", "sequences")


@dataclass(frozen=True, slots=True)
class TritonStep:
    """Views of one int32 tensor on the device."""

    sequences_B4: Tensor
    """First row, rows, tokens cached before, where its blocks begin among the tables."""
    owners_T: Tensor
    """The sequence of each row."""
    tables_X: Tensor
    """Blocks of all sequences, one after another."""
    sequences: int
    rows: int


def make_step(sequences: Sequence[SequenceRows], device: torch.device) -> TritonStep:
    """Lays the sequences out and copies them, without waiting for the device."""
    head, owners, tables = array("i"), array("i"), array("i")
    for index, part in enumerate(sequences):
        assert part.row == len(owners), "the sequences' rows lie one after another"
        head.extend((part.row, part.rows, part.context, len(tables)))
        owners.extend([index] * part.rows)
        tables.extend(part.blocks)
    rows = len(owners)
    step = torch.frombuffer(head + owners + tables + array("i", [0]), dtype=torch.int32)
    step = step.to(device, non_blocking=True)
    start = len(head)
    return TritonStep(step[:start].view(-1, 4), step[start : start + rows], step[start + rows :], len(sequences), rows)


@device_function
def find_sequence(
    step_ptr: tl.tensor, sequences: tl.tensor, tile: tl.tensor, RATIO: tl.constexpr, BLOCK_M: tl.constexpr
) -> tl.tensor:
    """The sequence that a tile of queries belongs to, and its number among the sequence's tiles.

    A sequence's tiles begin at (its first row) * RATIO // BLOCK_M + its index, which leaves room enough
    for each; so no table of tiles is needed, and some tiles are nobody's: their number lies beyond the last.
    """
    found = 0
    for start in range(0, sequences, _SEARCH):
        s = start + tl.arange(0, _SEARCH)
        first = tl.load(step_ptr + s * 4, mask=s < sequences, other=0)
        found += tl.sum(((first * RATIO // BLOCK_M + s <= tile) & (s < sequences)).to(tl.int32))
    sequence = found - 1
    return sequence, tile - (tl.load(step_ptr + sequence * 4) * RATIO // BLOCK_M + sequence)
