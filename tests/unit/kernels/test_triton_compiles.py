"""Every GPU kernel compiles for an H100, fits its shared memory and registers, and is one code for every step.

Triton compiles without a GPU. The operations are called as a server calls them, on tensors without memory, and a
launch only compiles: so what is compiled here is what a GPU would run, down to what is known of each argument.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import triton  # type: ignore[import-untyped]
from triton.backends.compiler import GPUTarget  # type: ignore[import-untyped]
from triton.runtime.jit import JITFunction  # type: ignore[import-untyped]

from openmodel_kernels.interface import AttentionRule, Gate, RoutingRule, Scoring, SequenceRows
from openmodel_kernels.triton.kernels import TritonKernels

from .backends import INTERPRETED, all_dtypes

pytestmark = pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")

SHARED_BYTES = 227 * 1024
HEADS, GROUPS = 32, 8
KERNELS = {
    "linear_kernel",
    "experts_kernel",
    "attention_kernel",
    "write_cache_kernel",
    "rms_norm_kernel",
    "norm_heads_kernel",
    "route_kernel",
    "sort_kernel",
    "combine_kernel",
}


class H100:
    """Stands in for the driver of a GPU that is not there."""

    def get_current_target(self) -> Any:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> str:
        # No real device's number: Triton keeps what it compiled by device.
        return "h100"

    def get_current_stream(self, device: str) -> int:
        return 0


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, Any]]:
    """What was launched, each compiled kernel once."""
    kernels: dict[int, Any] = {}
    run = JITFunction.run

    def compile_only(function: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        kernel = run(function, *args, grid=grid, warmup=True, **options)
        kernels[id(kernel)] = kernel

    monkeypatch.setattr(JITFunction, "run", compile_only)
    monkeypatch.setattr(triton.runtime.driver, "_active", H100())
    with torch.device("meta"):
        yield kernels


class Layer:
    """Every operation once, with the weights of one layer."""

    def __init__(self, dtype: torch.dtype, head_dim: int) -> None:
        self.kernels = TritonKernels(torch.device("meta"))
        self.dtype, self.head_dim = dtype, head_dim
        width = (HEADS + 2 * GROUPS) * head_dim
        self.qkv = self.kernels.pack(torch.empty(width, 4096, dtype=dtype))
        self.out = self.kernels.pack(torch.empty(4096, HEADS * head_dim, dtype=dtype))
        self.gate_up = self.kernels.pack(torch.empty(28672, 4096, dtype=dtype), gate=Gate.SILU)
        self.expert_gate_up = self.kernels.pack(torch.empty(128, 3072, 4096, dtype=dtype), gate=Gate.SILU)
        self.expert_down = self.kernels.pack(torch.empty(128, 4096, 1536, dtype=dtype))
        self.biased_gate_up = self.kernels.pack(
            torch.empty(128, 3072, 4096, dtype=dtype), gate=Gate.SWIGLU_OAI, bias_N=torch.empty(128, 3072)
        )
        self.biased_down = self.kernels.pack(torch.empty(128, 4096, 1536, dtype=dtype), bias_N=torch.empty(128, 4096))
        self.router = self.kernels.pack(torch.empty(128, 4096, dtype=dtype))
        self.int8_gate_up = self.kernels.pack(torch.empty(28672, 4096, dtype=dtype), gate=Gate.SILU, int8=True)
        self.by_head = self.kernels.pack(torch.empty(HEADS, 512, 128, dtype=dtype))
        # A row that is no whole number of steps, or of 16 bytes.
        self.uneven = self.kernels.pack(torch.empty(72, 4090, dtype=dtype))
        self.cache = self.kernels.new_cache(1, 1000, GROUPS, head_dim, dtype)[0]

    def run(self, rows: Sequence[int], rotary_dim: int) -> None:
        kernels, total = self.kernels, sum(rows)
        x = torch.empty(total, 4096, dtype=self.dtype)
        normed = kernels.rms_norm(x, torch.empty(4096, dtype=self.dtype), 1e-5)
        qkv = kernels.linear(normed, self.qkv)
        starts = [sum(rows[:index]) for index in range(len(rows))]
        step = kernels.attention_step([SequenceRows(at, n, 7, [0, 1]) for at, n in zip(starts, rows, strict=True)])
        angles = torch.empty(total, rotary_dim // 2)
        gain = torch.empty(self.head_dim, dtype=self.dtype)
        kernels.norm_heads(qkv, HEADS, gain, gain, 1e-5)
        kernels.write_cache(step, qkv, HEADS, angles, angles, self.cache)
        for rule in (AttentionRule(0.1), AttentionRule(0.1, 128, 30.0, torch.empty(HEADS))):
            x = kernels.linear(kernels.attention(step, qkv, HEADS, self.cache, rule), self.out, x)
        kernels.linear(x, self.gate_up)
        kernels.linear(x, self.int8_gate_up)
        kernels.grouped_linear(torch.empty(HEADS, total, 128, dtype=self.dtype), self.by_head)
        logits = kernels.logits(x, self.router)
        grouped = RoutingRule(8, Scoring.SIGMOID, groups=8, top_groups=4, group_best=2, bias_E=torch.empty(128))
        for routing_rule in (RoutingRule(8), grouped):
            routing = kernels.route(logits, routing_rule)
        kernels.experts(x, routing, self.expert_gate_up, self.expert_down, x)
        kernels.experts(x, routing, self.biased_gate_up, self.biased_down, x)
        kernels.linear(x[:, :4090].contiguous(), self.uneven)


def resources(kernel: Any, folder: Path) -> dict[str, int]:
    """What the machine code takes: registers and, where those did not suffice, stack."""
    code = folder / "kernel.cubin"
    code.write_bytes(kernel.asm["cubin"])
    command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", code]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {name: int(value) for name, value in re.findall(r"\b(REG|STACK):(\d+)", printed)}


@all_dtypes
@pytest.mark.parametrize(("head_dim", "rotary_dim"), [(64, 64), (128, 128), (256, 64)])
def test_every_kernel_compiles(
    compiled: dict[int, Any], tmp_path: Path, dtype: torch.dtype, head_dim: int, rotary_dim: int
) -> None:
    Layer(dtype, head_dim).run([1, 30], rotary_dim)
    assert {kernel.metadata.name for kernel in compiled.values()} == KERNELS
    for kernel in compiled.values():
        name = kernel.metadata.name
        assert kernel.metadata.target.arch == 90
        assert kernel.metadata.shared <= SHARED_BYTES, name
        used = resources(kernel, tmp_path)
        assert used["STACK"] == 0, (name, used)
        if dtype != torch.float32 and name in {"linear_kernel", "experts_kernel", "attention_kernel"}:
            assert "wgmma.mma_async" in kernel.asm["ptx"], name


def test_no_step_needs_other_code(compiled: dict[int, Any]) -> None:
    """A kernel compiled anew for some numbers of rows could sum in another order, and would make a step wait."""
    layer = Layer(torch.bfloat16, 128)
    layer.run([5, 3], 128)
    first = set(compiled)
    for rows in ([1], [16], [1, 1], [64] * 4, [1] * 16, [300, 1, 12], [1] * 257):
        layer.run(rows, 128)
    assert set(compiled) == first
