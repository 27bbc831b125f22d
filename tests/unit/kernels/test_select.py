"""Which backend is chosen, and what is said where the wanted one can not compute."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from openmodel_kernels.select import select_kernels

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")


@no_gpu
def test_auto_without_a_gpu_is_the_compiled_backend() -> None:
    assert select_kernels("auto", 64, torch.bfloat16).name.startswith("cpu/")


@no_gpu
def test_the_gpu_backend_without_a_gpu_says_so() -> None:
    with pytest.raises(ValueError, match="kernels 'triton': torch finds no GPU; 'auto' takes what can compute"):
        select_kernels("triton", 64, torch.bfloat16)


def test_a_head_that_the_compiled_backend_does_not_take_is_named() -> None:
    with pytest.raises(ValueError, match="kernels 'cpu': the compiled kernels have no attention for heads of 24 in"):
        select_kernels("cpu", 24, torch.float32)


@no_gpu
def test_auto_falls_back_and_warns(caplog: pytest.LogCaptureFixture) -> None:
    assert select_kernels("auto", 24, torch.float32).name == "reference"
    assert "many times slower" in caplog.text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_auto_with_a_gpu_is_the_gpu_backend() -> None:
    assert select_kernels("auto", 64, torch.bfloat16).name.startswith("triton/sm_")


@no_gpu
def test_the_compiled_backend_does_not_import_triton() -> None:
    """Importing it takes time that every start would pay."""
    code = (
        "import sys, torch; from openmodel_kernels.select import select_kernels;"
        "select_kernels('auto', 64, torch.float32);"
        "sys.exit(any(name.startswith('openmodel_kernels.triton') for name in sys.modules))"
    )
    path = os.pathsep.join(filter(None, sys.path))
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": path})
