"""The backends that this machine can run, each a parameter of the tests."""

from __future__ import annotations

import pytest
import torch

from openmodel_kernels.cpu import _cpu
from openmodel_kernels.cpu.kernels import CpuKernels
from openmodel_kernels.interface import Kernels
from openmodel_kernels.reference.kernels import ReferenceKernels

CAPABILITIES = _cpu.capabilities()
BACKENDS = ["reference", *CAPABILITIES]
DTYPES = [torch.bfloat16, torch.float16, torch.float32]
# What rounding once to the dtype, and sums of a few hundred products, may cost.
TOLERANCE = {torch.bfloat16: 2e-2, torch.float16: 3e-3, torch.float32: 1e-4}


def backend(name: str, threads: int = 2) -> Kernels:
    """The backend; a capability is the compiled one, made to use it."""
    if name == "reference":
        return ReferenceKernels()
    _cpu.use_capability(name)
    kernels = CpuKernels()
    kernels.set_num_threads(threads)
    return kernels


all_backends = pytest.mark.parametrize("name", BACKENDS)
all_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
