"""Normalization."""

from __future__ import annotations

import torch
from torch import Tensor


def rms_norm(x_TD: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """Root-mean-square normalization in float32, rounded once to the dtype of `x_TD`."""
    x32_TD = x_TD.float()
    scale_T1 = torch.rsqrt(x32_TD.square().mean(dim=-1, keepdim=True) + eps)
    return (weight_D.float() * (x32_TD * scale_T1)).to(x_TD.dtype)
