"""Weights that are stored in few bits, expanded to numbers that can be multiplied with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from openmodel_runtime.models.family import WeightPart

# The sixteen numbers of E2M1, a sign, two bits of exponent, one of mantissa (OCP Microscaling Formats 1.0, 2023).
_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
_SCALE_BIAS = 127
_FP8_BLOCK = 128
_FP8_NAMES = ("_proj.weight", "_proj_with_mqa.weight")


def expand_mxfp4(blocks: Tensor, scales: Tensor) -> Tensor:
    """MXFP4 to bfloat16, exact: thirty-two numbers of four bits share a power of two.

    Args:
        blocks: uint8 (…, B, 16), two numbers a byte, the lower four bits first.
        scales: uint8 (…, B), the exponents plus 127.

    Returns:
        (…, B * 32).
    """
    numbers = torch.tensor(_E2M1, dtype=torch.bfloat16)
    pairs = torch.stack((numbers[(blocks & 15).int()], numbers[(blocks >> 4).int()]), dim=-1)
    exponents = scales.int() - _SCALE_BIAS
    return torch.ldexp(pairs.flatten(-2), exponents[..., None]).flatten(-2)


def expand_fp8_blocks(weight_ND: Tensor, scales: Tensor) -> Tensor:
    """FP8 to bfloat16: blocks of 128 by 128 numbers share a factor (DeepSeek-V3, 2024).

    Args:
        weight_ND: float8_e4m3fn (N, D).
        scales: float32 (N / 128, D / 128), rounded up.
    """
    rows, columns = weight_ND.shape
    if scales.shape != (-(-rows // _FP8_BLOCK), -(-columns // _FP8_BLOCK)):
        raise RuntimeError(f"{tuple(scales.shape)} scales for blocks of {_FP8_BLOCK} by {_FP8_BLOCK}")
    spread = scales.repeat_interleave(_FP8_BLOCK, 0)[:rows].repeat_interleave(_FP8_BLOCK, 1)[:, :columns]
    return (weight_ND.float() * spread).bfloat16()


def stored_in_fp8(parts: Iterable[WeightPart]) -> Iterator[WeightPart]:
    """The parts of a checkpoint whose projections are stored in FP8: each has its scales beside it."""
    for part in parts:
        if not part.name.endswith(_FP8_NAMES):
            yield part
            continue
        if part.source:
            raise AssertionError("a part of a tensor does not have a part of its scales")
        yield replace(part, more=(f"{part.name}_scale_inv",), make=_Expanded(part))


class _Expanded:
    """Makes a part's numbers from what they are stored as."""

    def __init__(self, part: WeightPart) -> None:
        self._make = part.make

    def __call__(self, weight: Tensor, scales: Tensor) -> Tensor:
        expanded = expand_fp8_blocks(weight, scales)
        return expanded if self._make is None else self._make(expanded)
