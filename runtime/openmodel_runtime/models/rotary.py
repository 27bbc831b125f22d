"""Rotary frequencies, stretched as a model wants them. C rotated elements of a head."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from openmodel_kernels.rotary import inverse_frequencies
from openmodel_runtime.checkpoint.model_config import RotaryConfig, RotaryScaling


def frequencies(config: RotaryConfig) -> Tensor:
    """Radians a position, float32, (C/2,)."""
    plain_C = inverse_frequencies(config.dim, config.theta)
    match config.scaling:
        case RotaryScaling.NONE:
            return plain_C
        case RotaryScaling.LINEAR:
            return plain_C / config.factor
        case RotaryScaling.LLAMA3:
            return _llama3(plain_C, config)
        case RotaryScaling.YARN:
            return _yarn(plain_C, config)


def query_scale(config: RotaryConfig, positions_T: Tensor) -> Tensor | None:
    """What queries are multiplied with at their positions, float32, (T,); None where they stay as they are.

    Keeps scores apart in sequences longer than the first training's (Llama 4, 2025; Ministral 3 has it too).
    """
    if not config.query_beta:
        return None
    lengths_T = torch.floor(positions_T / config.original_positions)
    return 1 + config.query_beta * torch.log1p(lengths_T)


def _llama3(plain_C: Tensor, config: RotaryConfig) -> Tensor:
    """Long waves stretched, short ones left, those between in part (Llama 3.1, 2024)."""
    turns_C = config.original_positions * plain_C / (2 * math.pi)
    low, high = config.low_freq_factor, config.high_freq_factor
    kept_C = ((turns_C - low) / (high - low)).clamp(0.0, 1.0)
    return kept_C * plain_C + (1 - kept_C) * plain_C / config.factor


def _yarn(plain_C: Tensor, config: RotaryConfig) -> Tensor:
    """The same with a ramp over the elements (Peng et al., 2023)."""

    def element_with(turns: float) -> float:
        """The element whose wave turns so often over the original positions."""
        waves = math.log(config.original_positions / (turns * 2 * math.pi))
        return config.dim * waves / (2 * math.log(config.theta))

    first, last = element_with(config.beta_fast), element_with(config.beta_slow)
    if config.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, config.dim - 1)
    # A ramp of no width would divide by zero.
    width = max(last - first, 0.001)
    stretched_C = ((torch.arange(len(plain_C), dtype=torch.float32) - first) / width).clamp(0.0, 1.0)
    return stretched_C * plain_C / config.factor + (1 - stretched_C) * plain_C
