"""Triton's decorators with types, and the one way to launch a kernel.

Knows what makes Triton compile a kernel anew, which is what could change the order of a sum; knows no operation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

_ALIGNMENT = 16
# Triton looks at this when a kernel is decorated.
_INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)

# Pointers, scalars and tiles inside a kernel are all annotated as `tl.tensor`: Triton's compiler resolves annotations.
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Kernel(Protocol):
    """A compiled function; indexed with a grid, it launches."""

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., object]:
        """The function that launches it over the grid."""


def device_function(function: _Function) -> _Function:
    """A function that kernels call."""
    compiled: _Function = triton.jit(function)
    return compiled


@device_function
def dot(a: tl.tensor, b: tl.tensor, sums: tl.tensor) -> tl.tensor:
    """The sums plus the product, exact products summed in float32."""
    if _INTERPRETED:
        # The interpreter multiplies the bits of brain floats as if they were integers.
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, sums, input_precision="ieee")


def kernel(*changing: str) -> Callable[[Callable[..., None]], Kernel]:
    """A kernel.

    Triton compiles a kernel once more for an integer that is 1 or a multiple of 16, and for addresses that are. One
    code for every step, and no compilation while serving, need that it looks at nothing that changes between steps.

    Args:
        changing: names of the arguments that change from step to step, and of pointers into the step's description.
    """

    def decorate(function: Callable[..., None]) -> Kernel:
        compiled: Kernel = triton.jit(function, do_not_specialize=list(changing))
        return compiled

    return decorate


def launch(function: Kernel, grid: tuple[int, ...], *arguments: object, **options: object) -> None:
    """Queues the kernel on the device's current stream; an empty grid is no work.

    Multiplications fuse with additions: Triton's default so far, written down because the last bits depend on it.
    """
    if 0 not in grid:
        function[grid](*arguments, enable_fp_fusion=True, **options)


def whole(x: Tensor) -> Tensor:
    """The tensor, row after row, at an address that all loads are compiled for.

    How a load is split among threads depends on its alignment, and with it the order in which a row's elements are
    summed: a row that begins elsewhere must not be summed otherwise.
    """
    if x.is_contiguous() and x.data_ptr() % _ALIGNMENT == 0:
        return x
    return x.clone(memory_format=torch.contiguous_format)


def tiles(size: int, tile: int) -> int:
    """Tiles that cover the size."""
    return -(-size // tile)


def power_of_two(size: int) -> int:
    """The least power of two that holds the size; tiles have such sizes."""
    return 1 << max(size - 1, 0).bit_length()
