"""Rotation of queries and keys by their position's angles, half-split layout."""

from __future__ import annotations

import torch
from torch import Tensor


def apply_rotary(x_THC: Tensor, cos_TR: Tensor, sin_TR: Tensor) -> Tensor:
    """Rotates each head's pairs (i, i + R) by the position's angles, in float32; what lies beyond 2R stays."""
    half = cos_TR.shape[-1]
    first, second, rest = torch.split(x_THC.float(), [half, half, x_THC.shape[-1] - 2 * half], dim=-1)
    cos, sin = cos_TR[:, None], sin_TR[:, None]
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), dim=-1).to(x_THC.dtype)
