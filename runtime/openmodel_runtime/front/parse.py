"""From a ModelInferRequest to what is asked for.

Pure. Every refusal names the field and the remedy. Knows no tokenizer: a prompt stays text here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openmodel_protos import grpc_service_pb2 as pb
from openmodel_runtime.errors import InvalidRequest, Unsupported
from openmodel_runtime.front.sampling_parameters import Sampling, parse_sampling
from openmodel_runtime.front.signature import INPUTS, OUTPUTS, UNSUPPORTED_INPUTS
from openmodel_runtime.front.tensors import InputTensor, decode_inputs

Message = dict[str, Any]
_EMPTY_FINAL = "triton_enable_empty_final_response"
# Parameters that HTTP front ends add; they say nothing about the generation.
_TRANSPORT_PARAMETERS = frozenset({"binary_data_output", "headers"})


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """A generation as a caller wants it."""

    text: str | None
    """Prompt, or None when there are messages."""
    messages: list[Message] | None
    """Conversation for the model's chat template."""
    sampling: Sampling
    stream: bool
    """True: a response a step; False: one response with the whole completion."""
    echo_prompt: bool
    """True: the prompt stands before the completion."""
    outputs: tuple[str, ...]
    """Names of the outputs to answer with, in the order of the signature."""
    timeout_seconds: float | None
    """The caller's own limit, or None."""


def parse_request(request: pb.ModelInferRequest, defaults: Mapping[str, Any]) -> InferRequest:
    """Reads a request; `defaults` are the checkpoint's sampling parameters."""
    tensors = _known_inputs(request)
    text, messages = _prompt(tensors)
    stream = _flag(tensors, "stream", False)
    echo = not _flag(tensors, "exclude_input_in_output", True)
    if stream and echo:
        raise InvalidRequest("when streaming, exclude_input_in_output = false is not allowed: leave it out")
    if echo and messages is not None:
        raise InvalidRequest("exclude_input_in_output = false needs text_input: messages have no text to repeat")
    given, timeout = _parameters(request, tensors)
    return InferRequest(
        text=text,
        messages=messages,
        sampling=parse_sampling(given, defaults),
        stream=stream,
        echo_prompt=echo,
        outputs=_outputs(request, tensors),
        timeout_seconds=timeout,
    )


def _known_inputs(request: pb.ModelInferRequest) -> dict[str, InputTensor]:
    tensors = decode_inputs(request)
    signatures = {signature.name: signature for signature in INPUTS}
    for tensor in tensors.values():
        if tensor.name in UNSUPPORTED_INPUTS:
            raise Unsupported(
                f"input {tensor.name!r} is not supported yet: put sampling parameters in sampling_parameters"
            )
        if tensor.name not in signatures:
            raise InvalidRequest(f"unknown input {tensor.name!r}; known: {', '.join(signatures)}")
        expected = signatures[tensor.name]
        if tensor.datatype != expected.datatype:
            raise InvalidRequest(f"input {tensor.name!r} must be {expected.datatype}, not {tensor.datatype}")
        if len(tensor.values) != 1:
            raise InvalidRequest(f"input {tensor.name!r} must have shape [1], not {list(tensor.shape)}")
    return tensors


def _text(tensor: InputTensor) -> str:
    value = tensor.values[0]
    assert isinstance(value, bytes)
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"input {tensor.name!r} is not UTF-8: {error}") from None


def _json(tensor: InputTensor) -> Any:
    text = _text(tensor)
    try:
        value = json.loads(text)
        if "\\ud" in text.lower():
            # Half a surrogate pair is JSON and no Unicode: neither a tokenizer nor a response can carry it.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"input {tensor.name!r} is not JSON: {error}") from None
    return value


def _flag(tensors: Mapping[str, InputTensor], name: str, default: bool) -> bool:
    return bool(tensors[name].values[0]) if name in tensors else default


def _prompt(tensors: Mapping[str, InputTensor]) -> tuple[str | None, list[Message] | None]:
    given = [name for name in ("text_input", "messages") if name in tensors]
    if len(given) != 1:
        raise InvalidRequest(
            f"exactly one of the inputs text_input and messages is needed, not {' and '.join(given) or 'none'}"
        )
    if "text_input" in tensors:
        return _text(tensors["text_input"]), None
    messages = _json(tensors["messages"])
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("input 'messages' must be a non-empty JSON list of {role, content}")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise InvalidRequest(f"messages[{index}] must be an object with a role")
        if not isinstance(message.get("content"), str):
            raise InvalidRequest(f"messages[{index}].content must be a string")
    return None, messages


def _parameters(
    request: pb.ModelInferRequest, tensors: Mapping[str, InputTensor]
) -> tuple[dict[str, Any], float | None]:
    """Sampling parameters and timeout; vLLM's rule: parameters of the request count when the tensor is absent."""
    values = {
        name: getattr(parameter, parameter.WhichOneof("parameter_choice") or "", None)
        for name, parameter in request.parameters.items()
        if name not in _TRANSPORT_PARAMETERS
    }
    timeout = _timeout_seconds(values.pop("timeout", 0))
    if not isinstance(values.pop(_EMPTY_FINAL, False), bool):
        raise InvalidRequest(f"invalid value type for {_EMPTY_FINAL!r} parameter, expected bool_param.")
    if values.pop("priority", 0):
        raise Unsupported("parameter 'priority' is not supported: leave it out or 0")
    for name in values:
        if name.startswith("sequence_"):
            raise Unsupported(f"parameter {name!r} is not supported: a generation has no sequence")
    if "sampling_parameters" not in tensors:
        return values, timeout
    if values:
        raise InvalidRequest(
            f"parameters {', '.join(sorted(values))} beside the input sampling_parameters: send one of them"
        )
    given = _json(tensors["sampling_parameters"])
    if not isinstance(given, dict):
        raise InvalidRequest("input 'sampling_parameters' must be a JSON object")
    return given, timeout


def _timeout_seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidRequest(f"parameter 'timeout' must be a number of microseconds, not {value!r}")
    return value / 1e6 if value else None


def _outputs(request: pb.ModelInferRequest, tensors: Mapping[str, InputTensor]) -> tuple[str, ...]:
    known = {signature.name for signature in OUTPUTS}
    requested = set()
    for output in request.outputs:
        if output.name not in known:
            raise InvalidRequest(f"unknown output {output.name!r}; known: {', '.join(sorted(known))}")
        if output.parameters.get("classification") is not None:
            raise InvalidRequest(f"output {output.name!r}: classification is not offered for generated text")
        if any(key.startswith("shared_memory") for key in output.parameters):
            raise Unsupported(f"output {output.name!r}: shared memory is not offered")
        requested.add(output.name)
    if not requested:
        requested = {"text_output"}
    requested |= {
        name.removeprefix("return_") for name in tensors if name.startswith("return_") and _flag(tensors, name, False)
    }
    return tuple(signature.name for signature in OUTPUTS if signature.name in requested)
