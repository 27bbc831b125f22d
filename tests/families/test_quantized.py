"""Weights in few bits: what they expand to, and a whole checkpoint of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from openmodel_kernels.cpu.kernels import CpuKernels
from openmodel_runtime.errors import CheckpointError
from openmodel_runtime.models.quantized import expand_fp8_blocks, expand_mxfp4

from .catalog import write_checkpoint
from .ours import Sequences, load
from .test_parity import assert_close, prompt


def packed(experts: int, outputs: int, inputs: int) -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(outputs)
    blocks = torch.randint(0, 256, (experts, outputs, inputs // 32, 16), generator=chance, dtype=torch.uint8)
    return blocks, torch.randint(122, 127, (experts, outputs, inputs // 32), generator=chance, dtype=torch.uint8)


def test_mxfp4_is_transformers() -> None:
    blocks, scales = packed(3, 10, 96)
    theirs = convert_moe_packed_tensors(blocks, scales, dtype=torch.bfloat16)
    assert torch.equal(expand_mxfp4(blocks, scales), theirs.transpose(1, 2))
    # Every number there is, at both ends of the scale.
    blocks = torch.arange(256, dtype=torch.uint8).view(1, 16, 1, 16)
    for exponent in (3, 127, 250):
        scales = torch.full((1, 16, 1), exponent, dtype=torch.uint8)
        theirs = convert_moe_packed_tensors(blocks, scales, dtype=torch.bfloat16)
        assert torch.equal(expand_mxfp4(blocks, scales), theirs.transpose(1, 2))


def write_gpt_oss(folder: Path) -> dict[str, Tensor]:
    """gpt-oss as it is published: experts in MXFP4. What they expand to, by the names of those that are replaced."""
    write_checkpoint("gpt-oss", folder)
    tensors = load_file(folder / "model.safetensors")
    expanded = {}
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, inputs, outputs = tensors.pop(name).shape
        blocks, scales = packed(experts, outputs, inputs)
        tensors[f"{name}_blocks"], tensors[f"{name}_scales"] = blocks, scales
        expanded[name] = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    (folder / "config.json").write_text(json.dumps(config))
    return expanded


def test_a_checkpoint_in_mxfp4(tmp_path: Path) -> None:
    expanded = write_gpt_oss(tmp_path)
    (tmp_path / "plain").mkdir()
    theirs = write_checkpoint("gpt-oss", tmp_path / "plain")
    with torch.inference_mode():
        for name, tensor in expanded.items():
            theirs.get_parameter(name).copy_(tensor)
        expected = theirs(torch.tensor([prompt()])).logits[0]
    assert_close(Sequences(load(tmp_path, CpuKernels(), torch.float32), 1).run([prompt()])[0], expected)


def test_scales_that_do_not_fit_are_named(tmp_path: Path) -> None:
    write_gpt_oss(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = "model.layers.0.mlp.experts.down_proj"
    tensors[f"{name}_scales"] = tensors[f"{name}_scales"][:, :5].contiguous()
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"down_proj_blocks and .*down_proj_scales"):
        load(tmp_path, CpuKernels(), torch.float32)


def to_fp8(weight_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers and the factors of their blocks."""
    rows, columns = weight_ND.shape
    scales = torch.empty(-(-rows // 128), -(-columns // 128))
    numbers = torch.empty_like(weight_ND)
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            block = slice(128 * i, 128 * (i + 1)), slice(128 * j, 128 * (j + 1))
            scales[i, j] = weight_ND[block].abs().max() / 448
            numbers[block] = weight_ND[block] / scales[i, j]
    return numbers.to(torch.float8_e4m3fn), scales


def test_fp8_blocks() -> None:
    weight = torch.randn(300, 200) * torch.linspace(1e-3, 10, 200)
    expanded = expand_fp8_blocks(*to_fp8(weight)).float()
    # Three bits of mantissa, and what is small beside the largest of its block.
    assert torch.allclose(expanded, weight, rtol=0.07, atol=2e-2)
    with pytest.raises(RuntimeError, match="scales for blocks"):
        expand_fp8_blocks(torch.zeros(129, 10).to(torch.float8_e4m3fn), torch.ones(1, 1))


@pytest.mark.parametrize("name", ["deepseek-v3", "qwen3-moe"])
def test_a_checkpoint_in_fp8(name: str, tmp_path: Path) -> None:
    """As DeepSeek-V3 is published: projections in FP8, and a block more that is not served."""
    write_checkpoint(name, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    plain = dict(tensors)
    for tensor in [tensor for tensor in tensors if "_proj" in tensor]:
        numbers, scales = to_fp8(tensors[tensor])
        tensors |= {tensor: numbers, f"{tensor}_scale_inv": scales}
        plain[tensor] = expand_fp8_blocks(numbers, scales).float()
    (tmp_path / "plain").mkdir()
    save_file(plain, tmp_path / "plain" / "model.safetensors", {"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "plain" / "config.json").write_text(json.dumps(config))
    if name == "deepseek-v3":
        config["num_nextn_predict_layers"] = 1
        tensors[f"model.layers.{config['num_hidden_layers']}.eh_proj.weight"] = torch.zeros(2, 2)
    config["quantization_config"] = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "model.safetensors")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "plain", attn_implementation="eager")
    with torch.inference_mode():
        expected = theirs(torch.tensor([prompt()])).logits[0]
    assert_close(Sequences(load(tmp_path, CpuKernels(), torch.float32), 1).run([prompt()])[0], expected)
