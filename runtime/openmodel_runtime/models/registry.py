"""Which family serves which architecture."""

from __future__ import annotations

from openmodel_runtime.errors import UnsupportedModel
from openmodel_runtime.models.family import ModelFamily
from openmodel_runtime.models.llama import LLAMA
from openmodel_runtime.models.mixtral import MIXTRAL

FAMILIES: dict[str, ModelFamily] = {
    "LlamaForCausalLM": LLAMA,
    "MistralForCausalLM": LLAMA,
    "MixtralForCausalLM": MIXTRAL,
}


def family_of(architecture: str) -> ModelFamily:
    """The family, or UnsupportedModel that names what is served."""
    try:
        return FAMILIES[architecture]
    except KeyError:
        raise UnsupportedModel(
            f"config.json: architecture {architecture!r} is not supported; supported: {', '.join(sorted(FAMILIES))}"
        ) from None
