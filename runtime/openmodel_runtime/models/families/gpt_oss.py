"""gpt-oss: sinks, windows in every other layer, biases everywhere, clamped experts (OpenAI, 2025).

Published checkpoints store the experts in MXFP4, expanded while they load. An expert's gates and ups alternate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from openmodel_runtime.checkpoint.config_fields import ConfigFields
from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.errors import UnsupportedModel
from openmodel_runtime.models.checkpoint_names import attention_weights, stem_weights
from openmodel_runtime.models.family import ModelFamily, WeightPart
from openmodel_runtime.models.quantized import expand_mxfp4
from openmodel_runtime.models.standard_config import experts_config, standard_config

_ALPHA, _LIMIT = 1.702, 7.0


def _configure(fields: ConfigFields) -> ModelConfig:
    config = standard_config(fields, quantization=("mxfp4",))
    # The kernels have these two written down.
    for name, value in (("swiglu_alpha", _ALPHA), ("swiglu_limit", _LIMIT)):
        if fields.number(name, value) != value:
            raise UnsupportedModel(f"config.json: {name} must be {value}")
    windows = config.attention.windows
    if not fields.has("layer_types"):
        window = fields.optional_size("sliding_window")
        windows = tuple(window if layer % 2 == 0 else None for layer in range(config.num_layers))
    biased = fields.flag("attention_bias", True)
    attention = replace(config.attention, sinks=True, windows=windows, qkv_bias=biased, out_bias=biased)
    layers = frozenset(range(config.num_layers))
    experts = experts_config(fields, ("num_local_experts",), "intermediate_size", layers)
    expert = replace(experts.expert, gate="swigluoai", bias=True)
    return replace(config, attention=attention, experts=replace(experts, expert=expert, router_bias=True))


def _weights(config: ModelConfig) -> Iterator[WeightPart]:
    assert config.experts is not None
    yield from stem_weights(config)
    yield from attention_weights(config)
    for layer in range(config.num_layers):
        theirs, ours = f"model.layers.{layer}.mlp", f"blocks.{layer}.feed_forward"
        yield WeightPart(f"{theirs}.router.weight", f"{ours}.router.weight")
        yield WeightPart(f"{theirs}.router.bias", f"{ours}.router.bias")
        up, down = f"{theirs}.experts.gate_up_proj", f"{theirs}.experts.down_proj"
        yield WeightPart(f"{up}_bias", f"{ours}.experts.gate_up.bias", make=_gates_then_ups_bias)
        yield WeightPart(f"{down}_bias", f"{ours}.experts.down.bias")
        for expert in range(config.experts.count):
            yield _matrix(config, up, f"{ours}.experts.gate_up.weight", expert)
            yield _matrix(config, down, f"{ours}.experts.down.weight", expert)


def _matrix(config: ModelConfig, name: str, parameter: str, expert: int) -> WeightPart:
    """One expert's matrix: MXFP4 lies as (outputs, inputs), brain floats the other way round."""
    gated = name.endswith("gate_up_proj")
    if config.quantization == "mxfp4":
        make = _gates_then_ups_mxfp4 if gated else expand_mxfp4
        return WeightPart(f"{name}_blocks", parameter, (expert,), (expert,), (f"{name}_scales",), make)
    return WeightPart(name, parameter, (expert,), (expert,), make=_gates_then_ups_transposed if gated else _transposed)


def _gates_then_ups(weight_XD: Tensor) -> Tensor:
    return weight_XD.reshape(-1, 2, weight_XD.shape[1]).transpose(0, 1).flatten(0, 1)


def _gates_then_ups_bias(bias_EX: Tensor) -> Tensor:
    return bias_EX.view(len(bias_EX), -1, 2).transpose(1, 2).flatten(1, 2)


def _gates_then_ups_mxfp4(blocks: Tensor, scales: Tensor) -> Tensor:
    return _gates_then_ups(expand_mxfp4(blocks, scales))


def _gates_then_ups_transposed(weight_DX: Tensor) -> Tensor:
    return _gates_then_ups(weight_DX.T)


def _transposed(weight_DX: Tensor) -> Tensor:
    return weight_DX.T


GPT_OSS = ModelFamily(configure=_configure, weights=_weights)
