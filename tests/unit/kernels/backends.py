"""The backends that this machine can run, each a parameter of the tests.

Triton runs on a GPU where there is one. With TRITON_INTERPRET=1 its interpreter runs the same kernels on the CPU, and
nothing else is tested (test_triton_interpreted starts such a run).
"""

from __future__ import annotations

import os

import pytest
import torch

from openmodel_kernels.cpu import _cpu
from openmodel_kernels.cpu.kernels import CpuKernels
from openmodel_kernels.interface import Kernels
from openmodel_kernels.reference.kernels import ReferenceKernels

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
TRITON = "triton"
TRITON_DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
CAPABILITIES = _cpu.capabilities()
_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
BACKENDS = (
    [pytest.param(TRITON)]
    if INTERPRETED
    else [*map(pytest.param, ("reference", *CAPABILITIES)), pytest.param(TRITON, marks=_GPU)]
)
# To the interpreter float16 is as bfloat16: the same tiles, and numpy's arithmetic.
DTYPES = [torch.bfloat16, torch.float32] if INTERPRETED else [torch.bfloat16, torch.float16, torch.float32]
# What rounding once to the dtype, and sums of a few hundred products, may cost.
TOLERANCE = {torch.bfloat16: 2e-2, torch.float16: 3e-3, torch.float32: 1e-4}


def backend(name: str, threads: int = 2) -> Kernels:
    """The backend; a capability is the compiled one, made to use it."""
    if name == "reference":
        return ReferenceKernels()
    if name == TRITON:
        from openmodel_kernels.triton.kernels import TritonKernels

        return TritonKernels(TRITON_DEVICE)
    _cpu.use_capability(name)
    kernels = CpuKernels()
    kernels.set_num_threads(threads)
    return kernels


def use_best_capability() -> None:
    """What the compiled backend uses where nobody chose."""
    _cpu.use_capability(CAPABILITIES[0])


all_backends = pytest.mark.parametrize("name", BACKENDS)
all_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
