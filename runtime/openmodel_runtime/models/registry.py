"""Which family serves which architecture."""

from __future__ import annotations

from openmodel_runtime.checkpoint.config_fields import ConfigFields, architecture_of
from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.errors import UnsupportedModel
from openmodel_runtime.models.families.deepseek import DEEPSEEK_V2, DEEPSEEK_V3
from openmodel_runtime.models.families.gpt_oss import GPT_OSS
from openmodel_runtime.models.families.grok1 import GROK_1
from openmodel_runtime.models.families.llama import LLAMA
from openmodel_runtime.models.families.mistral import MISTRAL
from openmodel_runtime.models.families.mixtral import MIXTRAL
from openmodel_runtime.models.families.qwen2 import QWEN2
from openmodel_runtime.models.families.qwen3 import QWEN3
from openmodel_runtime.models.families.qwen3_moe import QWEN3_MOE
from openmodel_runtime.models.family import ModelFamily, WeightPart
from openmodel_runtime.models.quantized import stored_in_fp8

FAMILIES: dict[str, ModelFamily] = {
    "DeepseekV2ForCausalLM": DEEPSEEK_V2,
    "DeepseekV3ForCausalLM": DEEPSEEK_V3,
    "GptOssForCausalLM": GPT_OSS,
    "Grok1ModelForCausalLM": GROK_1,
    "LlamaForCausalLM": LLAMA,
    "Ministral3ForCausalLM": MISTRAL,
    "MinistralForCausalLM": MISTRAL,
    "MistralForCausalLM": MISTRAL,
    "MixtralForCausalLM": MIXTRAL,
    "Qwen2ForCausalLM": QWEN2,
    "Qwen3ForCausalLM": QWEN3,
    "Qwen3MoeForCausalLM": QWEN3_MOE,
}


def family_of(architecture: str) -> ModelFamily:
    """The family, or UnsupportedModel that names what is served."""
    try:
        return FAMILIES[architecture]
    except KeyError:
        raise UnsupportedModel(
            f"config.json: architecture {architecture!r} is not supported; supported: {', '.join(sorted(FAMILIES))}"
        ) from None


def read_model_config(fields: ConfigFields) -> ModelConfig:
    """What `config.json` says, as its family reads it."""
    return family_of(architecture_of(fields)).configure(fields)


def weight_parts(config: ModelConfig) -> list[WeightPart]:
    """Where each tensor of the model's checkpoint goes."""
    parts = family_of(config.architecture).weights(config)
    return list(stored_in_fp8(parts) if config.quantization == "fp8" else parts)
