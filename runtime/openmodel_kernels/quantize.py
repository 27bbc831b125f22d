"""Weights in eight bits: the same numbers for every backend."""

from __future__ import annotations

import torch
from torch import Tensor

_LARGEST = 127


def to_int8(weight_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers (…, N, D) from -127 to 127, and the factors (…, N), float32: a row's largest number becomes 127."""
    weight = weight_ND.float()
    scale = weight.abs().amax(dim=-1) / _LARGEST
    # A row of zeros has a factor of 0, and any numbers.
    measured = weight / torch.where(scale > 0, scale, torch.ones_like(scale))[..., None]
    return measured.round().to(torch.int8), scale
