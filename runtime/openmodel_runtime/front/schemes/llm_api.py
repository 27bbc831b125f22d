"""The names of TensorRT-LLM's LLM API model: a tensor `sampling_param_…` for each sampling parameter.

Its own configuration declares some of them; the others that vLLM's names have too are taken under the same prefix.
"""

from __future__ import annotations

from typing import Any

from openmodel_runtime.front.inputs import Inputs
from openmodel_runtime.front.schemes.tensorrt_llm import PERFORMANCE_METRICS
from openmodel_runtime.front.signature import LIST, Scheme, TensorSignature, Wanted

_PREFIX = "sampling_param_"
# vLLM's name of each sampling parameter, and its datatype.
_SAMPLING = {
    "n": "INT32",
    "best_of": "INT32",
    "temperature": "FP32",
    "top_k": "INT32",
    "top_p": "FP32",
    "min_p": "FP32",
    "repetition_penalty": "FP32",
    "presence_penalty": "FP32",
    "frequency_penalty": "FP32",
    "max_tokens": "INT32",
    "min_tokens": "INT32",
    "seed": "UINT64",
    "ignore_eos": "BOOL",
    "include_stop_str_in_output": "BOOL",
    "skip_special_tokens": "BOOL",
}
_FLAGS = {
    "return_finish_reason": "finish_reason",
    "return_stop_reason": "stop_reason",
    "return_cumulative_logprob": "cumulative_logprob",
}


def _read(inputs: Inputs) -> Wanted:
    sampling: dict[str, Any] = {}
    called: dict[str, str] = {}
    for name in _SAMPLING:
        called[name] = _PREFIX + name
        if called[name] in inputs:
            sampling[name] = inputs.scalar(called[name])
    called["stop"] = _PREFIX + "stop"
    sampling["stop"] = [word for word in inputs.texts(called["stop"]) if word]
    return Wanted(
        stream=inputs.flag("streaming", False),
        echo_prompt=not inputs.flag(_PREFIX + "exclude_input_from_output", True),
        sampling=sampling,
        called=called,
        outputs=frozenset(output for flag, output in _FLAGS.items() if inputs.flag(flag, False)),
    )


LLM_API = Scheme(
    title="TensorRT-LLM's LLM API's",
    inputs=(
        TensorSignature("text_input", "BYTES"),
        TensorSignature("messages", "BYTES"),
        TensorSignature("tools", "BYTES"),
        TensorSignature("chat_template_kwargs", "BYTES"),
        TensorSignature("streaming", "BOOL"),
        *(TensorSignature(_PREFIX + name, datatype) for name, datatype in _SAMPLING.items()),
        TensorSignature(_PREFIX + "stop", "BYTES", LIST),
        TensorSignature(_PREFIX + "exclude_input_from_output", "BOOL"),
        TensorSignature(_PREFIX + "return_perf_metrics", "BOOL", only=(False,)),
        *(TensorSignature(flag, "BOOL") for flag in _FLAGS),
        # A second request there ends a first one; here the call is cancelled.
        TensorSignature("stop", "BOOL", only=(False,)),
        TensorSignature(_PREFIX + "logits_post_processor_name", "BYTES", only=(b"",)),
        TensorSignature("image_url", "BYTES", LIST, only=()),
        TensorSignature("lora_id", "UINT64", only=()),
        TensorSignature("lora_name", "BYTES", only=(b"",)),
        TensorSignature("lora_path", "BYTES", only=(b"",)),
        TensorSignature("lora_ckpt_source", "BYTES", only=(b"",)),
    ),
    outputs=(
        TensorSignature("text_output", "BYTES", LIST),
        TensorSignature("finish_reason", "BYTES", LIST),
        TensorSignature("stop_reason", "BYTES", LIST),
        TensorSignature("cumulative_logprob", "FP32", LIST),
        TensorSignature("kv_cache_reused_block", "INT32", LIST, only=()),
        TensorSignature("kv_cache_missed_block", "INT32", LIST, only=()),
        TensorSignature("kv_cache_alloc_new_blocks", "INT32", LIST, only=()),
        TensorSignature("kv_cache_alloc_total_blocks", "INT32", LIST, only=()),
        TensorSignature("kv_cache_hit_rate", "FP32", LIST, only=()),
        *PERFORMANCE_METRICS,
    ),
    read=_read,
)
