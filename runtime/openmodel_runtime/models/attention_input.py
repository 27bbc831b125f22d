"""The step as every layer's attention needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from openmodel_kernels.interface import LayerCache


@dataclass(frozen=True, slots=True)
class AttentionInput:
    """Made once for all layers."""

    step: Any
    cos_TC: Tensor
    sin_TC: Tensor
    caches: Sequence[LayerCache]
    query_scale_T: Tensor | None = None
    """Queries are multiplied with it."""
