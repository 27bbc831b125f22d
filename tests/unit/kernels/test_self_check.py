from __future__ import annotations

import pytest
import torch
from torch import Tensor

from openmodel_kernels.interface import PackedWeight
from openmodel_kernels.reference.kernels import ReferenceKernels
from openmodel_kernels.self_check import variant_operations

from .backends import CAPABILITIES, DTYPES, backend


@pytest.mark.parametrize("name", CAPABILITIES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sound_kernels_pass(name: str, dtype: torch.dtype) -> None:
    assert variant_operations(backend(name), dtype, torch.device("cpu")) == []


class _ByBatch(ReferenceKernels):
    """Multiplies as torch does, in an order that depends on the number of rows."""

    def linear(self, x_TD: Tensor, weight: PackedWeight, residual_TN: Tensor | None = None) -> Tensor:
        flipped = super().pack(weight.weight.flip(1))  # type: ignore[attr-defined]
        return super().linear(x_TD.flip(1), flipped) if x_TD.shape[0] < 4 else super().linear(x_TD, weight)


def test_an_order_that_depends_on_the_batch_is_named() -> None:
    assert variant_operations(_ByBatch(), torch.float32, torch.device("cpu")) == ["linear"]
