"""From a ModelInferRequest to what is asked for.

Pure. Every refusal names the field and the remedy. Knows no tokenizer: a prompt stays text here. What the tensors of
each scheme are called is known by `schemes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from openmodel_protos import grpc_service_pb2 as pb
from openmodel_runtime.errors import InvalidRequest, Unsupported
from openmodel_runtime.front.conversation import read_conversation
from openmodel_runtime.front.inputs import Inputs
from openmodel_runtime.front.sampling_parameters import Sampling, parse_sampling
from openmodel_runtime.front.schemes.recognise import recognise
from openmodel_runtime.front.signature import Scheme, Wanted
from openmodel_runtime.front.tensors import decode_inputs
from openmodel_runtime.text.conversation import Conversation

_EMPTY_FINAL = "triton_enable_empty_final_response"
# Parameters that HTTP front ends add; they say nothing about the generation.
_TRANSPORT_PARAMETERS = frozenset({"binary_data_output", "headers"})
_LOGPROBS = "logprobs"
# Outputs that need the log-probability of each token, whether the caller asks for those of others or not.
_OF_LOGPROBS = frozenset({"cumulative_logprob", "cum_log_probs", "output_log_probs"})


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """A generation as a caller wants it."""

    prompt: str | Conversation
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
    tensors = decode_inputs(request)
    scheme, own = recognise(tensors, (output.name for output in request.outputs))
    inputs = Inputs(tensors, scheme.inputs, own)
    prompt = _prompt(inputs)
    wanted = scheme.read(inputs)
    if wanted.stream and wanted.echo_prompt:
        raise InvalidRequest("when streaming, exclude_input_in_output = false is not allowed: leave it out")
    if wanted.echo_prompt and isinstance(prompt, Conversation):
        raise InvalidRequest("exclude_input_in_output = false needs text_input: messages have no text to repeat")
    given, timeout = _parameters(request, scheme, wanted)
    outputs = _outputs(request, scheme, wanted)
    return InferRequest(
        prompt=prompt,
        sampling=_needed(parse_sampling(given, defaults, wanted.called), outputs),
        stream=wanted.stream,
        echo_prompt=wanted.echo_prompt,
        outputs=outputs,
        timeout_seconds=timeout,
    )


def _prompt(inputs: Inputs) -> str | Conversation:
    given = [name for name in ("text_input", "messages") if name in inputs]
    if len(given) != 1:
        raise InvalidRequest(
            f"exactly one of the inputs text_input and messages is needed, not {' and '.join(given) or 'none'}"
        )
    if "messages" in inputs:
        return read_conversation(inputs)
    for name in ("tools", "chat_template_kwargs"):
        if name in inputs:
            raise InvalidRequest(f"input {name!r} is for the chat template: send messages instead of text_input")
    return inputs.text("text_input")


def _parameters(
    request: pb.ModelInferRequest, scheme: Scheme, wanted: Wanted
) -> tuple[Mapping[str, Any], float | None]:
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
    if wanted.sampling is None:
        return values, timeout
    if values:
        beside = "the input sampling_parameters" if "sampling_parameters" in _names(scheme) else f"{scheme.title} names"
        raise InvalidRequest(f"parameters {', '.join(sorted(values))} beside {beside}: send one of them")
    return wanted.sampling, timeout


def _names(scheme: Scheme) -> frozenset[str]:
    return frozenset(signature.name for signature in scheme.inputs)


def _timeout_seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidRequest(f"parameter 'timeout' must be a number of microseconds, not {value!r}")
    return value / 1e6 if value else None


def _outputs(request: pb.ModelInferRequest, scheme: Scheme, wanted: Wanted) -> tuple[str, ...]:
    """The outputs to answer with: those that are asked for by name, else the text; and those that flags add."""
    offered = {signature.name: signature.offered for signature in scheme.outputs}
    requested = set()
    for output in request.outputs:
        if not offered[output.name]:
            raise Unsupported(f"output {output.name!r} is not supported: leave it out")
        if output.parameters.get("classification") is not None:
            raise InvalidRequest(f"output {output.name!r}: classification is not offered for generated text")
        if any(key.startswith("shared_memory") for key in output.parameters):
            raise Unsupported(f"output {output.name!r}: shared memory is not offered")
        requested.add(output.name)
    wanted_names = (requested or {"text_output"}) | wanted.outputs
    return tuple(signature.name for signature in scheme.outputs if signature.name in wanted_names)


def _needed(sampling: Sampling, outputs: tuple[str, ...]) -> Sampling:
    """The engine computes the log-probabilities that an output shows, and no others."""
    logprobs = sampling.logprobs if _LOGPROBS in outputs else None
    if logprobs is None and not _OF_LOGPROBS.isdisjoint(outputs):
        logprobs = 0
    if logprobs == sampling.params.logprobs:
        return sampling
    return replace(sampling, params=msgspec.structs.replace(sampling.params, logprobs=logprobs))
