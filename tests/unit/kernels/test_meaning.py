"""Every backend computes what the plainest way to write the operation computes, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from openmodel_kernels.interface import Gate
from openmodel_kernels.quantize import to_int8

from .backends import all_backends, all_dtypes, backend
from .plain import close, plain_gate


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@all_backends
@all_dtypes
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 64, 32), (5, 200, 72), (33, 576, 8), (300, 32, 100)])
def test_linear(name: str, dtype: torch.dtype, rows: int, inputs: int, outputs: int) -> None:
    kernels = backend(name)
    x, weight = torch.randn(rows, inputs).to(dtype), (torch.randn(outputs, inputs) / inputs**0.5).to(dtype)
    residual = torch.randn(rows, outputs).to(dtype)
    packed = kernels.pack(weight)
    plain = x.double() @ weight.double().T
    assert close(kernels.linear(x, packed), plain, dtype)
    assert close(kernels.linear(x, packed, residual), residual.double() + plain, dtype)
    assert kernels.logits(x, packed).dtype == torch.float32
    assert close(kernels.logits(x, packed), plain, dtype)
    index = torch.tensor([outputs - 1, 0, outputs // 2])
    assert torch.equal(kernels.rows(packed, index), weight[index])


@all_backends
@all_dtypes
@pytest.mark.parametrize("gate", [None, *Gate])
def test_bias_and_gate(name: str, dtype: torch.dtype, gate: Gate | None) -> None:
    kernels = backend(name)
    x, weight = torch.randn(20, 64).to(dtype), (torch.randn(72, 64) / 4).to(dtype)
    # Wide enough for the clamps to matter.
    bias, residual = torch.randn(72) * 4, torch.randn(20, 72).to(dtype)
    for added in (None, bias):
        packed = kernels.pack(weight, gate=gate, bias_N=added)
        plain = x.double() @ weight.double().T + (0.0 if added is None else added.double())
        if gate is not None:
            assert close(kernels.linear(x, packed) / 8, plain_gate(plain, gate) / 8, dtype)
            continue
        assert close(kernels.linear(x, packed, residual) / 8, (residual.double() + plain) / 8, dtype)
        assert close(kernels.logits(x, packed), plain, dtype)


@all_backends
@all_dtypes
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 64, 32), (20, 201, 72), (300, 96, 100)])
def test_weights_in_eight_bits(name: str, dtype: torch.dtype, rows: int, inputs: int, outputs: int) -> None:
    kernels = backend(name)
    x, weight = torch.randn(rows, inputs).to(dtype), (torch.randn(outputs, inputs) / inputs**0.5).to(dtype)
    weight[3] = 0
    bias, index = torch.randn(outputs), torch.tensor([outputs - 1, 3, 0])
    numbers, scale = to_int8(weight)
    plain = numbers.double() * scale.double()[:, None]
    assert (plain - weight.double()).abs().max() <= scale.max() / 2 * 1.001
    packed = kernels.pack(weight, bias_N=bias, int8=True)
    assert packed.nbytes < 0.8 * weight.nbytes or dtype == torch.float32 or outputs < 64
    assert close(kernels.logits(x, packed), x.double() @ plain.T + bias.double(), dtype)
    assert close(kernels.rows(packed, index), plain[index], dtype)
    gated = kernels.pack(weight, gate=Gate.SILU, int8=True)
    assert close(kernels.linear(x, gated), plain_gate(x.double() @ plain.T, Gate.SILU), dtype)


@all_backends
@all_dtypes
@pytest.mark.parametrize("rows", [1, 8, 40])
def test_whole_numbers_of_eight_bits_are_multiplied_exactly(name: str, dtype: torch.dtype, rows: int) -> None:
    kernels = backend(name)
    # A row that holds 127 has a factor of 1.
    weight = torch.arange(-127, 128).repeat(64, 1).roll(5, 1).to(dtype)
    ones = torch.eye(255, dtype=dtype)
    packed = kernels.pack(weight, int8=True)
    for start in range(0, 255, rows):
        some = slice(start, start + rows)
        assert torch.equal(kernels.logits(ones[some].contiguous(), packed), weight.T[some].float())


@all_backends
@all_dtypes
def test_norm_of_heads(name: str, dtype: torch.dtype) -> None:
    heads, groups, dim = 4, 2, 48
    qkv, weights = torch.randn(5, (heads + 2 * groups) * dim).to(dtype), torch.randn(2, dim).to(dtype)
    plain = qkv.double().view(5, -1, dim)
    normed = plain / (plain.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    expected = torch.cat(
        (normed[:, :heads] * weights[0].double(), normed[:, heads:-groups] * weights[1].double(), plain[:, -groups:]), 1
    )
    backend(name).norm_heads(qkv, heads, weights[0], weights[1], 1e-5)
    assert close(qkv.view(5, -1, dim), expected, dtype)


@all_backends
@all_dtypes
def test_rms_norm(name: str, dtype: torch.dtype) -> None:
    x, weight = torch.randn(3, 200).to(dtype), torch.randn(200).to(dtype)
    plain = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
    out = backend(name).rms_norm(x, weight, 1e-5)
    assert out.dtype == dtype
    assert close(out, plain, dtype)


@all_backends
def test_the_likeliest_of_equals_is_the_lowest(name: str) -> None:
    assert backend(name).likeliest(torch.tensor([[0.0, 3.0, 3.0, -1.0], [2.0, 0.0, 1.0, 2.0]])) == [1, 0]


@all_backends
@pytest.mark.parametrize("columns", [3, 64, 300])
@pytest.mark.parametrize("density", [0.05, 0.9])
def test_the_likeliest_of_what_is_allowed(name: str, columns: int, density: float) -> None:
    logits = torch.randint(0, 9, (40, columns)).float()
    allowed = torch.rand(40, columns) < density
    allowed[torch.arange(40), torch.randint(0, columns, (40,))] = True
    expected = torch.where(allowed, logits, -torch.inf).argmax(-1)
    octets = torch.from_numpy(np.packbits(allowed.numpy(), axis=1, bitorder="little"))
    assert backend(name).likeliest(logits, octets) == expected.tolist()


def test_wrong_shapes_are_named() -> None:
    from .backends import CAPABILITIES

    kernels = backend(CAPABILITIES[0])
    packed = kernels.pack(torch.randn(32, 64))
    with pytest.raises(RuntimeError, match="x has 32 columns, the weight 64"):
        kernels.linear(torch.randn(1, 32), packed)
    with pytest.raises(RuntimeError, match="allowed must have a row of x's and a bit a column"):
        kernels.likeliest(torch.randn(2, 9), torch.zeros(2, 1, dtype=torch.uint8))
    with pytest.raises(RuntimeError, match="residual must have the output's shape"):
        kernels.linear(torch.randn(1, 64), packed, torch.randn(1, 8))
    with pytest.raises(RuntimeError, match="x must be Float"):
        kernels.linear(torch.randn(1, 64).bfloat16(), packed)
