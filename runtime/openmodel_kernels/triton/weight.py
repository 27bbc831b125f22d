"""The form in which weights are multiplied with: as they came, on the device.

Rows of a weight are contiguous along the dimension that is summed over, which is what the matrix instructions read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from openmodel_kernels.interface import Gate, PackedWeight
from openmodel_kernels.quantize import to_int8


@dataclass(frozen=True, slots=True)
class DeviceWeight:
    """One weight (N, D), or one an expert (E, N, D)."""

    weight: Tensor
    dtype: torch.dtype
    """What it came in, and what is multiplied with it."""
    gate: Gate | None
    bias: Tensor | None
    """float32, (N,) or (E, N)."""
    scale: Tensor | None
    """The same: factors of the rows of a weight in int8."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        more = (tensor.nbytes for tensor in (self.bias, self.scale) if tensor is not None)
        return self.weight.nbytes + sum(more)

    @property
    def inner(self) -> int:
        """D."""
        return self.weight.shape[-1]

    @property
    def columns(self) -> int:
        """Columns of a product with it."""
        return self.weight.shape[-2] // 2 if self.gate else self.weight.shape[-2]

    @property
    def up_offset(self) -> int:
        """Elements from a gate's row to its up's."""
        return self.columns * self.inner

    @property
    def bias_pointer(self) -> Tensor:
        """The bias, or something in its place that is not read."""
        return self.weight if self.bias is None else self.bias

    @property
    def scale_pointer(self) -> Tensor:
        """The factors, or something in their place that is not read."""
        return self.weight if self.scale is None else self.scale


def pick_experts(picked: Sequence[tuple[DeviceWeight, int]]) -> DeviceWeight:
    """Experts of weights (E, N, D), side by side in new memory."""
    first = picked[0][0]
    return DeviceWeight(
        torch.stack([weight.weight[expert] for weight, expert in picked]),
        first.dtype,
        first.gate,
        _stacked([(weight.bias, expert) for weight, expert in picked]),
        _stacked([(weight.scale, expert) for weight, expert in picked]),
    )


def _stacked(numbers: Sequence[tuple[Tensor | None, int]]) -> Tensor | None:
    there = [tensor[expert] for tensor, expert in numbers if tensor is not None]
    return torch.stack(there) if there else None


def device_weight(weight: PackedWeight) -> DeviceWeight:
    """The weight, which must be of this backend."""
    assert isinstance(weight, DeviceWeight)
    return weight


def check_input(x_TD: Tensor, weight: DeviceWeight) -> None:
    """A kernel would read beyond its tensors.

    Raises:
        ValueError: the two do not fit; says how.
    """
    if x_TD.shape[1] != weight.inner:
        raise ValueError(f"x has {x_TD.shape[1]} columns, the weight {weight.inner}")
    if x_TD.dtype != weight.dtype:
        raise ValueError(f"x is {x_TD.dtype}, the weight {weight.dtype}")
    if x_TD.device != weight.weight.device:
        raise ValueError(f"x is on {x_TD.device}, the weight on {weight.weight.device}")


def to_device(
    weight_ND: Tensor, device: torch.device, gate: Gate | None, bias_N: Tensor | None, *, int8: bool
) -> DeviceWeight:
    """A weight on the device; no copy where it is there already."""
    bias = None if bias_N is None else bias_N.to(device, torch.float32).contiguous()
    weight, scale = to_int8(weight_ND) if int8 else (weight_ND, None)
    scale = None if scale is None else scale.to(device).contiguous()
    return DeviceWeight(weight.to(device).contiguous(), weight_ND.dtype, gate, bias, scale)
