"""Activations out of torch's exp and IEEE arithmetic alone.

torch's own sigmoid, tanh and gelu compute what fills a vector register by one formula and the rest by another, so that
an element's last bits depend on where in the tensor it stands. Its exp does not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from openmodel_kernels.interface import Gate


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e^-x)."""
    return 1.0 / (1.0 + torch.exp(-x))


def tanh(x: Tensor) -> Tensor:
    """1 - 2 / (e^2x + 1)."""
    return 1.0 - 2.0 / (torch.exp(2.0 * x) + 1.0)


def join_halves(out_TN: Tensor, gate: Gate) -> Tensor:
    """The gate half and the up half of a product, joined."""
    x, up = out_TN.chunk(2, dim=-1)
    match gate:
        case Gate.SILU:
            return x * sigmoid(x) * up
        case Gate.GELU_TANH:
            # gelu(x) = x * sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)), which is its tanh form.
            return x * sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x)) * up
        case Gate.SWIGLU_OAI:
            x = x.clamp(max=7.0)
            return x * sigmoid(1.702 * x) * (up.clamp(-7.0, 7.0) + 1.0)
