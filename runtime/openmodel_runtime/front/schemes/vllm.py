"""The names of vLLM's backend for Triton: sampling parameters are one JSON object.

It is the scheme of a request whose tensors are in several, and the one that takes the request's own parameters.
"""

from __future__ import annotations

from openmodel_runtime.errors import InvalidRequest
from openmodel_runtime.front.inputs import Inputs
from openmodel_runtime.front.signature import LIST, Scheme, TensorSignature, Wanted

_FLAGS = {
    "return_finish_reason": "finish_reason",
    "return_cumulative_logprob": "cumulative_logprob",
    "return_logprobs": "logprobs",
    "return_num_input_tokens": "num_input_tokens",
    "return_num_output_tokens": "num_output_tokens",
}


def _read(inputs: Inputs) -> Wanted:
    sampling = None
    if "sampling_parameters" in inputs:
        sampling = inputs.json("sampling_parameters")
        if not isinstance(sampling, dict):
            raise InvalidRequest("input 'sampling_parameters' must be a JSON object")
    return Wanted(
        stream=inputs.flag("stream", False),
        echo_prompt=not inputs.flag("exclude_input_in_output", True),
        sampling=sampling,
        outputs=frozenset(output for flag, output in _FLAGS.items() if inputs.flag(flag, False)),
    )


VLLM = Scheme(
    title="vLLM's",
    inputs=(
        TensorSignature("text_input", "BYTES"),
        TensorSignature("messages", "BYTES"),
        TensorSignature("tools", "BYTES"),
        TensorSignature("chat_template_kwargs", "BYTES"),
        TensorSignature("stream", "BOOL"),
        TensorSignature("sampling_parameters", "BYTES"),
        TensorSignature("exclude_input_in_output", "BOOL"),
        *(TensorSignature(flag, "BOOL") for flag in _FLAGS),
        TensorSignature("image", "BYTES", LIST, only=()),
        TensorSignature("embedding_request", "BYTES", only=()),
    ),
    outputs=(
        TensorSignature("text_output", "BYTES", LIST),
        TensorSignature("finish_reason", "BYTES", LIST),
        TensorSignature("cumulative_logprob", "FP32", LIST),
        TensorSignature("logprobs", "BYTES", LIST),
        TensorSignature("num_input_tokens", "UINT32"),
        TensorSignature("num_output_tokens", "UINT32", LIST),
    ),
    read=_read,
)
