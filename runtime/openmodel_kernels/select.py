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
BACKENDS = (AUTO, REFERENCE, "cpu")


def select_kernels(wanted: str, head_dim: int, dtype: torch.dtype) -> Kernels:
    """The wanted backend, or with "auto" the best that can compute this model.

    Args:
        wanted: one of BACKENDS.
        head_dim: of the model's attention.
        dtype: of weights and activations.

    Raises:
        ValueError: the wanted backend can not compute this model here; says why.
    """
    if wanted == REFERENCE:
        return ReferenceKernels()
    try:
        cpu = importlib.import_module("openmodel_kernels.cpu.kernels")
    except ImportError as error:
        return _instead(wanted, f"the compiled kernels are not installed ({error})")
    if not cpu.takes_head_dim(head_dim) or dtype not in cpu.DTYPES:
        return _instead(wanted, f"the compiled kernels have no attention for heads of {head_dim} in {dtype}")
    kernels: Kernels = cpu.CpuKernels()
    return kernels


def _instead(wanted: str, why: str) -> Kernels:
    if wanted != AUTO:
        raise ValueError(f"kernels {wanted!r}: {why}; auto would take {REFERENCE!r}")
    _log.warning("%s: serving with the reference kernels, which are many times slower", why)
    return ReferenceKernels()
