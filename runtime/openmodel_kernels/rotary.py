"""Angles of rotary position embedding (Su et al., 2021): the same tables for every backend.

T tokens, C head dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor


def inverse_frequencies(head_dim: int, theta: float) -> Tensor:
    """The frequencies `theta ** (-2i / C)`, i = 0 … C/2 - 1, float32, shape (C/2,)."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    return 1.0 / theta**exponents


def rotary_tables(positions_T: Tensor, frequencies_C: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position's angles, each (T, C/2), float32."""
    angles_TC = positions_T.float()[:, None] * frequencies_C[None, :]
    return angles_TC.cos(), angles_TC.sin()
