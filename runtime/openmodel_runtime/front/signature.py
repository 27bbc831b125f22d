"""The tensors that a generation takes and gives: vLLM's names on Triton, and `messages`.

One table, read by the parser, by ModelMetadata and by ModelConfig.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TensorSignature:
    """Name, datatype and shape of a tensor; -1 is any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = True


INPUTS = (
    TensorSignature("text_input", "BYTES", (1,)),
    TensorSignature("messages", "BYTES", (1,)),
    TensorSignature("stream", "BOOL", (1,)),
    TensorSignature("sampling_parameters", "BYTES", (1,)),
    TensorSignature("exclude_input_in_output", "BOOL", (1,)),
    TensorSignature("return_finish_reason", "BOOL", (1,)),
    TensorSignature("return_num_input_tokens", "BOOL", (1,)),
    TensorSignature("return_num_output_tokens", "BOOL", (1,)),
)
OUTPUTS = (
    TensorSignature("text_output", "BYTES", (-1,)),
    TensorSignature("finish_reason", "BYTES", (-1,)),
    TensorSignature("num_input_tokens", "UINT32", (1,)),
    TensorSignature("num_output_tokens", "UINT32", (-1,)),
)
# Tensors of the known schemes that this server does not offer yet: answered by name, never ignored.
UNSUPPORTED_INPUTS = frozenset(
    {
        "image",
        "embedding_request",
        "return_cumulative_logprob",
        "return_logprobs",
        "max_tokens",
        "temperature",
        "top_k",
        "top_p",
        "seed",
        "stop_words",
        "bad_words",
        "end_id",
        "pad_id",
        "min_tokens",
        "beam_width",
        "num_return_sequences",
        "length_penalty",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
        "return_log_probs",
        "return_context_logits",
        "return_generation_logits",
        "return_perf_metrics",
        "guided_decoding_guide",
        "guided_decoding_guide_type",
        "streaming",
        "input_ids",
        "input_lengths",
        "request_output_len",
    }
)
