"""Which backend computes, for a device and a model."""

from __future__ import annotations

import importlib
import logging

import torch

from openmodel_kernels.interface import Kernels
from openmodel_kernels.reference.kernels import ReferenceKernels

_log = logging.getLogger(__name__)
AUTO = "auto"
REFERENCE = "reference"
CPU = "cpu"
TRITON = "triton"
BACKENDS = (AUTO, REFERENCE, CPU, TRITON)


def select_kernels(wanted: str, head_dim: int, dtype: torch.dtype) -> Kernels:
    """The wanted backend, or with "auto" the best that can compute this model: on a GPU where there is one.

    Args:
        wanted: one of BACKENDS.
        head_dim: of the model's attention.
        dtype: of weights and activations.

    Raises:
        ValueError: the wanted backend can not compute this model here; says why.
    """
    if wanted != AUTO:
        made = _make(wanted, head_dim, dtype)
        if isinstance(made, str):
            raise ValueError(f"kernels {wanted!r}: {made}; {AUTO!r} takes what can compute this model here")
        return made
    for name in (TRITON, CPU) if torch.cuda.is_available() else (CPU,):
        made = _make(name, head_dim, dtype)
        if not isinstance(made, str):
            return made
        _log.warning("%s: serving with other kernels, which are many times slower", made)
    return ReferenceKernels()


def _make(name: str, head_dim: int, dtype: torch.dtype) -> Kernels | str:
    """The backend, or why it can not compute the model."""
    if name == REFERENCE:
        return ReferenceKernels()
    return _triton(head_dim, dtype) if name == TRITON else _cpu(head_dim, dtype)


def _cpu(head_dim: int, dtype: torch.dtype) -> Kernels | str:
    try:
        cpu = importlib.import_module("openmodel_kernels.cpu.kernels")
    except ImportError as error:
        return f"the compiled kernels are not installed ({error})"
    if not cpu.takes_head_dim(head_dim) or dtype not in cpu.DTYPES:
        return f"the compiled kernels have no attention for heads of {head_dim} in {dtype}"
    kernels: Kernels = cpu.CpuKernels()
    return kernels


def _triton(head_dim: int, dtype: torch.dtype) -> Kernels | str:
    if not torch.cuda.is_available():
        return "torch finds no GPU"
    try:
        # Not before it is wanted: importing Triton takes time.
        triton = importlib.import_module("openmodel_kernels.triton.kernels")
    except ImportError as error:
        return f"Triton is not installed ({error})"
    if not triton.takes_head_dim(head_dim) or dtype not in triton.DTYPES:
        return f"the GPU kernels have no attention for heads of {head_dim} in {dtype}"
    kernels: Kernels = triton.TritonKernels(torch.device("cuda", torch.cuda.current_device()))
    return kernels
