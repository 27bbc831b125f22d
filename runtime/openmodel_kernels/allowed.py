"""Sets of tokens as bits: one a token, least significant first, eight an octet. S sequences, V vocabulary, O octets."""

from __future__ import annotations

import torch
from torch import Tensor


def only_allowed(logits_SV: Tensor, allowed_SO: Tensor) -> Tensor:
    """The logits of tokens whose bit is set, and -inf."""
    octets_SO1 = allowed_SO.to(logits_SV.device)[:, :, None]
    bits_SOV = octets_SO1 >> torch.arange(8, dtype=torch.uint8, device=logits_SV.device) & 1
    return torch.where(bits_SOV.flatten(1)[:, : logits_SV.shape[1]].bool(), logits_SV, -torch.inf)
