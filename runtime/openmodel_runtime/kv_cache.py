"""Cached keys and values, and the budget they come out of.

One contiguous buffer a sequence, allocated when the sequence is admitted, at the length it may reach.
L layers, G key/value heads, S tokens, C head dimension, N new tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from openmodel_runtime.checkpoint.model_config import ModelConfig


class SequenceCache:
    """Keys and values of one sequence."""

    def __init__(self, config: ModelConfig, capacity: int, dtype: torch.dtype, device: torch.device) -> None:
        shape = (config.num_layers, 2, config.num_kv_heads, capacity, config.head_dim)
        self._kv_L2GSC = torch.empty(shape, dtype=dtype, device=device)

    def append(self, layer: int, cached: int, k_NGC: Tensor, v_NGC: Tensor) -> tuple[Tensor, Tensor]:
        """Writes the new tokens after the cached ones; returns all keys and values so far, each (G, S, C)."""
        stop = cached + k_NGC.shape[0]
        keys_GSC, values_GSC = self._kv_L2GSC[layer]
        keys_GSC[:, cached:stop] = k_NGC.transpose(0, 1)
        values_GSC[:, cached:stop] = v_NGC.transpose(0, 1)
        return keys_GSC[:, :stop], values_GSC[:, :stop]
