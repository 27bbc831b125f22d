"""Linear layers by torch's own product, called with one shape only.

torch's product sums a row in an order that depends on how many rows there are, so rows go through it in blocks of one
size, the last one padded with zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

ROWS = 16


def fixed_shape_linear(x_TD: Tensor, weight_ND: Tensor) -> Tensor:
    """x times the weight's transpose in float32, (T, N)."""
    rows = x_TD.shape[0]
    padded = pad(x_TD.float(), (0, 0, 0, -rows % ROWS))
    weight = weight_ND.float()
    if not rows:
        return x_TD.new_empty((0, weight_ND.shape[0]), dtype=torch.float32)
    return torch.cat([linear(block, weight) for block in torch.split(padded, ROWS)])[:rows]
