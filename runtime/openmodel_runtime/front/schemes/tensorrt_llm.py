"""The names of TensorRT-LLM's `ensemble` and `tensorrt_llm_bls`: a tensor for each sampling parameter.

Its clients send every tensor they know, most of them at a value that asks for nothing, and a batch dimension of 1.
Knows what such a value is; a tensor that asks for what is not offered is refused by name.
"""

from __future__ import annotations

from typing import Any

from openmodel_runtime.errors import InvalidRequest
from openmodel_runtime.front.inputs import Inputs
from openmodel_runtime.front.signature import LIST, Scheme, TensorSignature, Wanted

# Tensors that are one of vLLM's sampling parameters by another name, or by the same.
_SAMPLING = {
    "max_tokens": "max_tokens",
    "min_tokens": "min_tokens",
    "num_return_sequences": "n",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "repetition_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "seed": "seed",
    "random_seed": "seed",
}
_FLAGS = {
    "return_log_probs": ("cum_log_probs", "output_log_probs"),
    "return_num_input_tokens": ("num_input_tokens",),
    "return_num_output_tokens": ("num_output_tokens",),
}
_NO_END_TOKEN = -1
_GUIDES = {"json": "json_object", "json_schema": "json", "regex": "regex", "ebnf_grammar": "grammar"}
# What both of TensorRT-LLM's schemes tell of a request's way through their engine.
PERFORMANCE_METRICS = (
    TensorSignature("arrival_time_ns", "INT64", only=()),
    TensorSignature("first_scheduled_time_ns", "INT64", only=()),
    TensorSignature("first_token_time_ns", "INT64", only=()),
    TensorSignature("last_token_time_ns", "INT64", only=()),
    TensorSignature("acceptance_rate", "FP32", only=()),
    TensorSignature("total_accepted_draft_tokens", "INT32", only=()),
    TensorSignature("total_draft_tokens", "INT32", only=()),
)


def _read(inputs: Inputs) -> Wanted:
    if "max_tokens" not in inputs:
        raise InvalidRequest(
            f"input 'max_tokens' is missing: TensorRT-LLM's names need it (INT32 [1]), and {inputs.own} is one of them"
        )
    if "seed" in inputs and "random_seed" in inputs:
        raise InvalidRequest("inputs 'seed' and 'random_seed' are two names of one thing: send one of them")
    sampling: dict[str, Any] = {}
    called: dict[str, str] = {}
    for tensor, name in _SAMPLING.items():
        if tensor in inputs:
            sampling[name], called[name] = inputs.scalar(tensor), tensor
    if sampling.get("top_p") == 0:
        # There it is the default, and means no limit beside a top_k, and the likeliest token without one.
        sampling["top_p"] = 1.0
        if not sampling.get("top_k"):
            sampling["temperature"] = 0.0
    if guide := _guide(inputs):
        sampling["structured_outputs"], called["structured_outputs"] = guide, "guided_decoding_guide"
    if "end_id" in inputs:
        end = inputs.scalar("end_id")
        # It stands for the model's own end tokens, but where a structure ends those alone may come.
        sampling["ignore_eos"], called["ignore_eos"] = end == _NO_END_TOKEN or not guide, "end_id"
        if end != _NO_END_TOKEN:
            sampling["stop_token_ids"], called["stop_token_ids"] = [end], "end_id"
    # An empty word is how its clients say that there is none.
    sampling["stop"], called["stop"] = [word for word in inputs.texts("stop_words") if word], "stop_words"
    flagged = (outputs for flag, outputs in _FLAGS.items() if inputs.flag(flag, False))
    return Wanted(
        stream=inputs.flag("stream", False),
        echo_prompt=not inputs.flag("exclude_input_in_output", True),
        sampling=sampling,
        called=called,
        outputs=frozenset(output for outputs in flagged for output in outputs),
    )


def _guide(inputs: Inputs) -> dict[str, Any]:
    """A guide of TensorRT-LLM's in vLLM's words; empty for none."""
    kind, guide = ("".join(inputs.texts(f"guided_decoding_guide{suffix}")) for suffix in ("_type", ""))
    if not kind and not guide:
        return {}
    if kind not in _GUIDES:
        raise InvalidRequest(f"input 'guided_decoding_guide_type' must be one of {', '.join(_GUIDES)}, not {kind!r}")
    name = _GUIDES[kind]
    return {name: True if name == "json_object" else guide}


TENSORRT_LLM = Scheme(
    title="TensorRT-LLM's",
    inputs=(
        TensorSignature("text_input", "BYTES"),
        TensorSignature("messages", "BYTES"),
        TensorSignature("tools", "BYTES"),
        TensorSignature("chat_template_kwargs", "BYTES"),
        TensorSignature("max_tokens", "INT32"),
        TensorSignature("min_tokens", "INT32"),
        TensorSignature("num_return_sequences", "INT32"),
        TensorSignature("stop_words", "BYTES", LIST),
        TensorSignature("bad_words", "BYTES", LIST, only=(b"",)),
        TensorSignature("stream", "BOOL"),
        TensorSignature("exclude_input_in_output", "BOOL"),
        TensorSignature("end_id", "INT32"),
        # Nothing is padded here, and one beam has nothing to weigh by its length: both change nothing.
        TensorSignature("pad_id", "INT32"),
        TensorSignature("length_penalty", "FP32"),
        TensorSignature("beam_width", "INT32", only=(1,)),
        TensorSignature("temperature", "FP32"),
        TensorSignature("top_k", "INT32"),
        TensorSignature("top_p", "FP32"),
        TensorSignature("repetition_penalty", "FP32"),
        TensorSignature("presence_penalty", "FP32"),
        TensorSignature("frequency_penalty", "FP32"),
        TensorSignature("seed", "UINT64"),
        TensorSignature("random_seed", "UINT64"),
        *(TensorSignature(flag, "BOOL") for flag in _FLAGS),
        TensorSignature("return_context_logits", "BOOL", only=(False,)),
        TensorSignature("return_generation_logits", "BOOL", only=(False,)),
        TensorSignature("return_perf_metrics", "BOOL", only=(False,)),
        TensorSignature("embedding_bias_words", "BYTES", LIST, only=(b"",)),
        TensorSignature("embedding_bias_weights", "FP32", LIST, only=(0.0,)),
        TensorSignature("guided_decoding_guide_type", "BYTES"),
        TensorSignature("guided_decoding_guide", "BYTES"),
        TensorSignature("decoder_text_input", "BYTES", only=(b"",)),
        TensorSignature("prompt_embedding_table", "FP16", LIST, only=()),
        TensorSignature("prompt_table_extra_id", "UINT64", only=()),
        TensorSignature("prompt_vocab_size", "INT32", only=()),
        TensorSignature("lora_task_id", "UINT64", only=()),
        TensorSignature("lora_weights", "FP16", LIST, only=()),
        TensorSignature("lora_config", "INT32", LIST, only=()),
        TensorSignature("image_input", "FP16", LIST, only=()),
        TensorSignature("image_bytes_input", "UINT8", LIST, only=()),
        TensorSignature("image_url_input", "BYTES", LIST, only=()),
        TensorSignature("video_bytes_input", "UINT8", LIST, only=()),
        # Of the token-level model behind the ensemble.
        TensorSignature("input_ids", "INT32", LIST, only=()),
        TensorSignature("input_lengths", "INT32", LIST, only=()),
        TensorSignature("request_output_len", "INT32", LIST, only=()),
    ),
    outputs=(
        TensorSignature("text_output", "BYTES", LIST),
        TensorSignature("cum_log_probs", "FP32", LIST),
        TensorSignature("output_log_probs", "FP32", (-1, -1)),
        TensorSignature("batch_index", "INT32"),
        TensorSignature("sequence_index", "INT32", LIST),
        TensorSignature("num_input_tokens", "UINT32"),
        TensorSignature("num_output_tokens", "UINT32", LIST),
        TensorSignature("context_logits", "FP32", LIST, only=()),
        TensorSignature("generation_logits", "FP32", LIST, only=()),
        TensorSignature("kv_cache_reused_blocks", "INT32", only=()),
        TensorSignature("kv_cache_alloc_new_blocks", "INT32", only=()),
        TensorSignature("kv_cache_alloc_total_blocks", "INT32", only=()),
        *PERFORMANCE_METRICS,
    ),
    read=_read,
)
