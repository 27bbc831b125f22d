"""The plainest way to write what backends are compared with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from openmodel_kernels.interface import Gate

from .backends import TOLERANCE


def close(ours: Tensor, plain: Tensor, dtype: torch.dtype) -> bool:
    return torch.allclose(ours.double(), plain, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


def plain_gate(both: Tensor, gate: Gate) -> Tensor:
    x, up = both.chunk(2, dim=-1)
    if gate is Gate.SWIGLU_OAI:
        x, up = x.clamp(max=7), up.clamp(-7, 7)
        return x * torch.sigmoid(1.702 * x) * (up + 1)
    return {Gate.SILU: silu, Gate.GELU_TANH: lambda x: gelu(x, approximate="tanh")}[gate](x) * up
