"""The three naming schemes: what each tensor means, and that they are not mixed."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import pytest

from openmodel_protos import grpc_service_pb2 as pb
from openmodel_runtime.errors import InvalidRequest, RequestError, Unsupported
from openmodel_runtime.front.parse import InferRequest, parse_request
from openmodel_runtime.front.schemes.recognise import INPUTS, OUTPUTS, SCHEMES
from openmodel_runtime.front.tensors import Value, encode_values

DATATYPES = {signature.name: signature.datatype for scheme in SCHEMES for signature in scheme.inputs}
DEFAULTS = {"temperature": 0.6, "top_p": 0.9}


def infer(outputs: Sequence[str] = (), batch: Sequence[int] = (), **inputs: Any) -> pb.ModelInferRequest:
    """A request with each input in its own datatype, `batch` before its dimension."""
    request = pb.ModelInferRequest(model_name="m")
    for name, given in {"text_input": b"Hi", **inputs}.items():
        values: list[Value] = given if isinstance(given, list) else [given]
        request.inputs.add(name=name, datatype=DATATYPES[name], shape=[*batch, len(values)])
        request.raw_input_contents.append(encode_values(DATATYPES[name], values * math.prod(batch)))
    for output in outputs:
        request.outputs.add(name=output)
    return request


def parse(request: pb.ModelInferRequest) -> InferRequest:
    return parse_request(request, DEFAULTS)


def refusal(request: pb.ModelInferRequest, error: type[RequestError] = InvalidRequest) -> str:
    with pytest.raises(error) as caught:
        parse(request)
    return str(caught.value)


@pytest.mark.parametrize("batch", [(), (1,)])
def test_tensorrt_llm_names(batch: tuple[int, ...]) -> None:
    parsed = parse(
        infer(
            batch=batch,
            max_tokens=20,
            min_tokens=2,
            num_return_sequences=3,
            temperature=0.5,
            top_k=7,
            top_p=0.75,
            repetition_penalty=1.5,
            presence_penalty=0.25,
            frequency_penalty=-0.25,
            seed=2**64 - 1,
            stop_words=[b"one", b"two"],
            bad_words=[b""],
            beam_width=1,
            pad_id=2,
            length_penalty=1.0,
            end_id=5,
            stream=True,
            exclude_input_in_output=True,
            return_log_probs=True,
            return_num_input_tokens=True,
            return_num_output_tokens=True,
            return_context_logits=False,
        )
    )
    params = parsed.sampling.params
    assert (params.max_tokens, params.min_tokens, parsed.sampling.n) == (20, 2, 3)
    assert (params.temperature, params.top_k, params.top_p, params.seed) == (0.5, 7, 0.75, 2**64 - 1)
    assert (params.repetition_penalty, params.presence_penalty, params.frequency_penalty) == (1.5, 0.25, -0.25)
    assert parsed.sampling.stop == ("one", "two")
    # end_id stands for the model's own end tokens.
    assert (params.stop_token_ids, params.ignore_eos) == ((5,), True)
    assert (parsed.stream, parsed.echo_prompt, params.logprobs) == (True, False, 0)
    expected = ("text_output", "cum_log_probs", "output_log_probs", "num_input_tokens", "num_output_tokens")
    assert parsed.outputs == expected


def test_tensorrt_llm_says_nothing_in_many_words() -> None:
    """What its own clients send when their user sets nothing."""
    parsed = parse(infer(max_tokens=9, stop_words=[b""], bad_words=[b""], end_id=-1, random_seed=3, top_k=1, top_p=0.0))
    params = parsed.sampling.params
    assert (parsed.sampling.stop, params.stop_token_ids, params.ignore_eos) == ((), (), True)
    assert (params.seed, params.top_k, params.top_p, params.temperature) == (3, 1, 1.0, 0.6)
    greedy = parse(infer(max_tokens=9, top_p=0.0)).sampling.params
    assert (greedy.temperature, greedy.top_p) == (0.0, 1.0)


def test_llm_api_names() -> None:
    parsed = parse(
        infer(
            streaming=True,
            sampling_param_temperature=0.5,
            sampling_param_top_k=7,
            sampling_param_top_p=0.75,
            sampling_param_max_tokens=20,
            sampling_param_seed=11,
            sampling_param_stop=[b"one", b""],
            sampling_param_n=2,
            sampling_param_best_of=2,
            sampling_param_exclude_input_from_output=True,
            sampling_param_return_perf_metrics=False,
            return_finish_reason=True,
            return_stop_reason=True,
            return_cumulative_logprob=True,
            stop=False,
            lora_name=b"",
        )
    )
    params = parsed.sampling.params
    assert (params.temperature, params.top_k, params.top_p, params.max_tokens, params.seed) == (0.5, 7, 0.75, 20, 11)
    assert (parsed.stream, parsed.sampling.n, parsed.sampling.stop) == (True, 2, ("one",))
    assert parsed.outputs == ("text_output", "finish_reason", "stop_reason", "cumulative_logprob")


def test_what_all_schemes_have_is_vllms() -> None:
    request = infer()
    request.parameters["max_tokens"].int64_param = 3
    assert parse(request).sampling.params.max_tokens == 3


def test_an_output_tells_the_scheme_too() -> None:
    parsed = parse(infer(outputs=["sequence_index", "text_output"], max_tokens=3))
    assert parsed.outputs == ("text_output", "sequence_index")
    assert parse(infer(outputs=["stop_reason"])).outputs == ("stop_reason",)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (infer(max_tokens=3, sampling_parameters=b"{}"), ["'max_tokens'", "'sampling_parameters'", "one scheme"]),
        (infer(streaming=True, stream=True), ["'streaming'", "'stream'", "one scheme"]),
        (infer(max_tokens=3, return_finish_reason=True), ["'max_tokens'", "'return_finish_reason'"]),
        (infer(max_tokens=3, outputs=["logprobs"]), ["input 'max_tokens'", "output 'logprobs'"]),
        (
            infer(stream=True, return_finish_reason=True, outputs=["arrival_time_ns"]),
            ["'stream'", "'return_finish_reason'", "'arrival_time_ns'"],
        ),
        (infer(temperature=0.5), ["'max_tokens'", "missing", "'temperature'"]),
        (infer(max_tokens=0), ["max_tokens"]),
        (infer(max_tokens=3, num_return_sequences=65), ["num_return_sequences"]),
        (infer(max_tokens=3, end_id=-2), ["end_id"]),
        (infer(max_tokens=3, seed=1, random_seed=1), ["'seed'", "'random_seed'"]),
        (infer(max_tokens=3, temperature=float("nan")), ["temperature"]),
        (infer(max_tokens=3, stop_words=[b"x" * 5000]), ["stop_words"]),
        (infer(max_tokens=3, stop_words=[b"\xff"]), ["stop_words", "UTF-8"]),
        (infer(max_tokens=3, min_tokens=4), ["min_tokens", "max_tokens"]),
        (infer(max_tokens=[3, 4]), ["max_tokens", "[1] or [1, 1]"]),
        (infer(batch=(2,), max_tokens=[3]), ["batch of 2"]),
        (infer(sampling_param_min_tokens=4, sampling_param_max_tokens=3), ["sampling_param_min_tokens"]),
        (infer(streaming=True, sampling_param_exclude_input_from_output=False), ["exclude_input"]),
        (infer(outputs=["nonsense"]), ["output 'nonsense'", "known"]),
    ],
)
def test_what_is_wrong_is_named(request_: pb.ModelInferRequest, words: list[str]) -> None:
    told = refusal(request_)
    assert [word for word in words if word not in told] == [], told


@pytest.mark.parametrize(
    "inputs",
    [
        {"beam_width": 2},
        {"bad_words": [b"", b"word"]},
        {"return_context_logits": True},
        {"return_generation_logits": True},
        {"return_perf_metrics": True},
        {"embedding_bias_weights": [0.0, 1.0]},
        {"lora_task_id": 1},
        {"prompt_vocab_size": 1},
        {"image_bytes_input": [1, 2]},
        {"input_ids": [1, 2]},
    ],
)
def test_what_tensorrt_llm_has_and_this_server_not_is_refused_by_name(inputs: dict[str, Any]) -> None:
    (name,) = inputs
    assert repr(name) in refusal(infer(max_tokens=3, **inputs), Unsupported)
    if name not in ("lora_task_id", "prompt_vocab_size"):
        parse(infer(max_tokens=3, **{name: _neutral(name)}))


def _neutral(name: str) -> Any:
    signature = next(each for scheme in SCHEMES for each in scheme.inputs if each.name == name)
    return list(signature.only or ())


@pytest.mark.parametrize(
    "inputs",
    [
        {"stop": True},
        {"sampling_param_return_perf_metrics": True},
        {"sampling_param_best_of": 2},
        {"lora_path": b"/x"},
        {"image_url": [b"http://x"]},
    ],
)
def test_what_the_llm_api_has_and_this_server_not_is_refused_by_name(inputs: dict[str, Any]) -> None:
    assert next(iter(inputs)) in refusal(infer(streaming=False, **inputs), Unsupported)


@pytest.mark.parametrize("output", ["context_logits", "kv_cache_hit_rate", "arrival_time_ns"])
def test_outputs_that_are_not_offered_are_refused_by_name(output: str) -> None:
    request = infer(outputs=[output]) if output == "kv_cache_hit_rate" else infer(outputs=[output], max_tokens=3)
    assert repr(output) in refusal(request, Unsupported)


def test_parameters_belong_to_vllms_names() -> None:
    request = infer(max_tokens=3)
    request.parameters["temperature"].double_param = 0.5
    told = refusal(request)
    assert ("temperature" in told, "TensorRT-LLM" in told) == (True, True)
    request = infer(max_tokens=3)
    request.parameters["timeout"].int64_param = 1_000_000
    assert parse(request).timeout_seconds == 1


def test_a_datatype_is_named() -> None:
    request = infer(max_tokens=3)
    request.inputs[1].datatype, request.raw_input_contents[1] = "INT64", struct.pack("<q", 3)
    told = refusal(request)
    assert ("'max_tokens'" in told, "INT32" in told, "INT64" in told) == (True, True, True)


def test_every_tensor_has_one_datatype_and_shape() -> None:
    """Descriptions of the model have each once, whichever schemes it is in."""
    for table in (
        [each for scheme in SCHEMES for each in scheme.inputs],
        [each for scheme in SCHEMES for each in scheme.outputs],
    ):
        kinds = {(each.name, each.datatype, each.shape) for each in table if each.offered}
        assert len(kinds) == len({name for name, _, _ in kinds})
    assert {"max_tokens", "beam_width", "streaming", "sampling_parameters"} <= {each.name for each in INPUTS}
    assert {"image", "lora_task_id", "input_ids"}.isdisjoint({each.name for each in INPUTS})
    assert {"logprobs", "cum_log_probs", "stop_reason"} <= {each.name for each in OUTPUTS}
    assert "context_logits" not in {each.name for each in OUTPUTS}
