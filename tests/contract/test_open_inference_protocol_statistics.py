"""ModelStatistics and the Prometheus exposition: what was answered, what failed, what was given up."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
import pytest

from contract.infer_requests import EVERLASTING, LONG, Requests, answers, request, streamed
from contract.runtime_server import RuntimeServer
from openmodel_protos import grpc_service_pb2 as pb
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc

Stub = pb_grpc.GRPCInferenceServiceStub


@dataclass(frozen=True)
class Counts:
    success: int = 0
    fail: int = 0
    cancel: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.success + other.success, self.fail + other.fail, self.cancel + other.cancel)


def statistics(stub: Stub) -> pb.ModelStatistics:
    (model,) = stub.ModelStatistics(pb.ModelStatisticsRequest()).model_stats
    return model


def counts(stub: Stub) -> Counts:
    model = statistics(stub)
    whole, responses = model.inference_stats, model.response_stats["0"]
    assert (whole.success.count, whole.fail.count) == (responses.success.count, responses.fail.count)
    return Counts(responses.success.count, responses.fail.count, responses.cancel.count)


def test_an_answered_request_is_a_success(stub: Stub) -> None:
    before, earlier = counts(stub), statistics(stub)
    stub.ModelInfer(request())
    list(stub.ModelStreamInfer(iter([streamed(), request()])))
    assert counts(stub) == before + Counts(success=3)
    now = statistics(stub)
    assert now.inference_count == earlier.inference_count + 3
    assert now.last_inference >= earlier.last_inference
    assert now.last_inference > 0
    for phase in ("success", "queue", "compute_input", "compute_infer"):
        new, old = getattr(now.inference_stats, phase), getattr(earlier.inference_stats, phase)
        assert (new.count, new.ns > old.ns) == (old.count + 3, True)


def test_a_refused_request_is_a_failure(stub: Stub) -> None:
    before = counts(stub)
    last = statistics(stub).last_inference
    for wrong in (request(model="nobody"), request(version="7"), request(None), request(sampling={"n": 0})):
        with pytest.raises(grpc.RpcError):
            stub.ModelInfer(wrong)
    assert "nobody" in answers(stub.ModelStreamInfer(iter([streamed(model="nobody")])))[""].error
    assert counts(stub) == before + Counts(fail=5)
    assert statistics(stub).last_inference == last


def test_a_request_that_ran_out_of_its_own_time_is_a_failure(server: RuntimeServer, stub: Stub) -> None:
    before = counts(stub)
    message = request()
    message.parameters["timeout"].int64_param = 1
    with server.frozen_rank(), pytest.raises(grpc.RpcError):
        stub.ModelInfer(message)
    assert counts(stub) == before + Counts(fail=1)


def test_what_its_caller_gave_up_is_a_cancellation(server: RuntimeServer, stub: Stub) -> None:
    before = counts(stub)
    unary = stub.ModelInfer.future(request(sampling=EVERLASTING))
    stream = stub.ModelStreamInfer(iter(Requests(streamed(sampling=EVERLASTING), streamed(sampling=EVERLASTING))))
    server.wait_until_running(3)
    unary.cancel()
    stream.cancel()
    server.wait_until_idle()
    assert counts(stub) == before + Counts(cancel=3)


def test_tokens_and_durations_are_counted(server: RuntimeServer, stub: Stub) -> None:
    names = {
        "openmodel_runtime_output_tokens_total": 300,
        "gen_ai_server_request_duration_seconds_count": 1,
        "gen_ai_server_time_to_first_token_seconds_count": 1,
        "gen_ai_server_time_per_output_token_seconds_count": 1,
    }
    stub.ModelInfer(request())
    before = {name: server.metric(name) for name in names}
    input_tokens = server.metric("openmodel_runtime_input_tokens_total")
    stub.ModelInfer(request(sampling=LONG))
    assert {name: server.metric(name) - before[name] for name in names} == names
    assert server.metric("openmodel_runtime_input_tokens_total") > input_tokens


def test_an_idle_rank_has_its_whole_cache_free(server: RuntimeServer, stub: Stub) -> None:
    stub.ModelInfer(request())
    server.wait_until_idle()
    free, whole = (server.metric(f"openmodel_runtime_kv_cache_{name}tokens") for name in ("free_", ""))
    assert free == whole > 0


def test_no_prompt_is_in_the_metrics_or_the_log(server: RuntimeServer, stub: Stub) -> None:
    secret = "the password is xyzzy"
    stub.ModelInfer(request(secret))
    with pytest.raises(grpc.RpcError):
        stub.ModelInfer(request(secret, {"nonsense": secret}))
    assert "xyzzy" not in server.log.read_text()
    assert "xyzzy" not in server.metrics()
