"""What the server says about itself and its model: the sixteen methods that generate nothing, through tritonclient."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

import openmodel_runtime
from contract.infer_requests import MODEL, VERSION
from contract.runtime_server import RuntimeServer

# Of each naming scheme; the model has more.
INPUTS = {
    "text_input": "BYTES",
    "messages": "BYTES",
    "stream": "BOOL",
    "sampling_parameters": "BYTES",
    "exclude_input_in_output": "BOOL",
    "return_finish_reason": "BOOL",
    "return_cumulative_logprob": "BOOL",
    "return_logprobs": "BOOL",
    "return_num_input_tokens": "BOOL",
    "return_num_output_tokens": "BOOL",
    "max_tokens": "INT32",
    "temperature": "FP32",
    "random_seed": "UINT64",
    "stop_words": "BYTES",
    "beam_width": "INT32",
    "streaming": "BOOL",
    "sampling_param_max_tokens": "INT32",
    "sampling_param_stop": "BYTES",
}
OUTPUTS = {
    "text_output": "BYTES",
    "finish_reason": "BYTES",
    "cumulative_logprob": "FP32",
    "logprobs": "BYTES",
    "num_input_tokens": "UINT32",
    "num_output_tokens": "UINT32",
    "cum_log_probs": "FP32",
    "output_log_probs": "FP32",
    "batch_index": "INT32",
    "sequence_index": "INT32",
    "stop_reason": "BYTES",
}


@pytest.fixture
def client(server: RuntimeServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.address) as client:
        yield client


def refused(status: str, words: str) -> pytest.RaisesExc[InferenceServerException]:
    return pytest.raises(InferenceServerException, match=re.compile(rf"\[StatusCode\.{status}\] .*{words}", re.DOTALL))


def test_live_and_ready(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()


@pytest.mark.parametrize("version", ["", VERSION])
def test_the_model_is_ready_by_its_name_and_version(client: triton.InferenceServerClient, version: str) -> None:
    assert client.is_model_ready(MODEL, version)


@pytest.mark.parametrize(("name", "version"), [("nobody", ""), (MODEL, "7"), (MODEL, f" {VERSION}"), ("", "")])
def test_another_model_or_version_is_not_ready(client: triton.InferenceServerClient, name: str, version: str) -> None:
    assert client.is_model_ready(name, version) is False


def test_server_metadata(client: triton.InferenceServerClient) -> None:
    metadata = client.get_server_metadata()
    assert (metadata.name, metadata.version) == ("openmodel", openmodel_runtime.__version__)
    assert {"model_configuration", "statistics", "model_repository"} <= set(metadata.extensions)


def test_model_metadata_names_every_tensor(client: triton.InferenceServerClient) -> None:
    metadata = client.get_model_metadata(MODEL)
    assert (metadata.name, list(metadata.versions), metadata.platform) == (MODEL, [VERSION], "openmodel")
    inputs = {tensor.name: tensor.datatype for tensor in metadata.inputs}
    assert inputs | INPUTS == inputs
    assert len(inputs) == len(metadata.inputs)
    # What only an empty tensor would be accepted of is not on offer.
    assert {"image", "lora_task_id", "input_ids"}.isdisjoint(inputs)
    assert {tensor.name: tensor.datatype for tensor in metadata.outputs} == OUTPUTS


def test_model_config_has_what_load_generators_read_and_what_was_loaded(client: triton.InferenceServerClient) -> None:
    config = client.get_model_config(MODEL, VERSION).config
    assert (config.name, config.backend, config.max_batch_size) == (MODEL, "openmodel", 0)
    assert config.model_transaction_policy.decoupled
    metadata = client.get_model_metadata(MODEL)
    assert [tensor.name for tensor in config.input] == [tensor.name for tensor in metadata.inputs]
    assert [tensor.name for tensor in config.output] == [tensor.name for tensor in metadata.outputs]
    assert all(tensor.optional for tensor in config.input)
    facts = {name: parameter.string_value for name, parameter in config.parameters.items()}
    assert (facts["architecture"], facts["dtype"]) == ("LlamaForCausalLM", "float32")
    assert int(facts["parameters"]) * 4 == int(facts["weight_bytes"])
    assert float(facts["load_seconds"]) > 0


@pytest.mark.parametrize("method", ["get_model_metadata", "get_model_config", "get_inference_statistics"])
@pytest.mark.parametrize(("name", "version"), [("nobody", ""), (MODEL, "1abc")])
def test_an_unknown_model_or_version_is_not_found(
    client: triton.InferenceServerClient, method: str, name: str, version: str
) -> None:
    with refused("NOT_FOUND", version or name):
        getattr(client, method)(name, version)


def test_the_repository_index_has_the_one_model(client: triton.InferenceServerClient) -> None:
    (model,) = client.get_model_repository_index().models
    assert (model.name, model.version, model.state, model.reason) == (MODEL, VERSION, "READY", "")


def test_statistics_need_no_name(client: triton.InferenceServerClient) -> None:
    (everything,) = client.get_inference_statistics().model_stats
    (named,) = client.get_inference_statistics(MODEL).model_stats
    assert (everything.name, everything.version) == (named.name, named.version) == (MODEL, VERSION)


def test_callers_do_not_decide_what_is_loaded(client: triton.InferenceServerClient) -> None:
    with refused("UNAVAILABLE", "explicit model load / unload is not allowed"):
        client.load_model(MODEL)
    with refused("UNAVAILABLE", "explicit model load / unload is not allowed"):
        client.unload_model(MODEL)
    assert client.is_model_ready(MODEL)


def test_trace_settings_are_told_and_not_changed(client: triton.InferenceServerClient) -> None:
    assert list(client.get_trace_settings(MODEL).settings["trace_level"].value) == ["OFF"]
    with refused("UNIMPLEMENTED", "trace settings"):
        client.update_trace_settings(MODEL, {"trace_level": ["TIMESTAMPS"]})
    with refused("NOT_FOUND", "nobody"):
        client.get_trace_settings("nobody")


def test_log_settings_are_told_and_not_changed(client: triton.InferenceServerClient) -> None:
    assert client.get_log_settings().settings["log_error"].bool_param
    with refused("UNIMPLEMENTED", "log settings"):
        client.update_log_settings({"log_verbose_level": 1})


def test_no_shared_memory_is_ever_registered(client: triton.InferenceServerClient) -> None:
    with refused("INTERNAL", "Unable to open shared memory region: '/test_shm'"):
        client.register_system_shared_memory("region", "/test_shm", 64)
    with refused("INVALID_ARGUMENT", "failed to register shared memory region.*invalid args"):
        client.register_cuda_shared_memory("", b"", 0, 0)
    with refused("UNIMPLEMENTED", "shared memory"):
        client.register_cuda_shared_memory("region", b"eA==", 0, 64)
    assert not client.get_system_shared_memory_status().regions
    assert not client.get_cuda_shared_memory_status().regions
    with refused("NOT_FOUND", "Unable to find system shared memory region: 'region'"):
        client.get_system_shared_memory_status("region")
    with refused("NOT_FOUND", "Unable to find cuda shared memory region: 'region'"):
        client.get_cuda_shared_memory_status("region")
    for name in ("", "region"):
        client.unregister_system_shared_memory(name)
        client.unregister_cuda_shared_memory(name)


@pytest.mark.parametrize("key", ["", "/..", "/" + "k" * 5000, "/a\0b", "/\u00e9"])
def test_no_key_of_shared_memory_tells_what_is_on_the_server(client: triton.InferenceServerClient, key: str) -> None:
    with refused("INTERNAL", "Unable to open shared memory region"):
        client.register_system_shared_memory("region", key, 64)


async def test_the_asyncio_client_gets_the_same(server: RuntimeServer) -> None:
    async with triton_aio.InferenceServerClient(server.address) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready(MODEL)
        assert not await client.is_model_ready("nobody")
        assert (await client.get_server_metadata()).name == "openmodel"
        assert (await client.get_model_metadata(MODEL)).name == MODEL
        assert (await client.get_model_config(MODEL)).config.name == MODEL
        assert (await client.get_model_repository_index(as_json=True))["models"][0]["state"] == "READY"
        assert (await client.get_inference_statistics(as_json=True))["model_stats"][0]["name"] == MODEL
        assert "trace_level" in (await client.get_trace_settings(as_json=True))["settings"]
        assert "log_info" in (await client.get_log_settings(as_json=True))["settings"]
        assert await client.get_system_shared_memory_status(as_json=True) == {}
        assert await client.get_cuda_shared_memory_status(as_json=True) == {}
        with refused("UNAVAILABLE", "explicit model load / unload is not allowed"):
            await client.load_model(MODEL)
        with refused("UNAVAILABLE", "explicit model load / unload is not allowed"):
            await client.unload_model(MODEL)
        with refused("INTERNAL", "Unable to open shared memory region: '/test_shm'"):
            await client.register_system_shared_memory("region", "/test_shm", 64)
        with refused("INVALID_ARGUMENT", "failed to register shared memory region.*invalid args"):
            await client.register_cuda_shared_memory("", b"", 0, 0)
        with refused("UNIMPLEMENTED", "trace settings"):
            await client.update_trace_settings(settings={"trace_rate": "1"})
        with refused("UNIMPLEMENTED", "log settings"):
            await client.update_log_settings({"log_info": False})
        await client.unregister_system_shared_memory()
        await client.unregister_cuda_shared_memory()
