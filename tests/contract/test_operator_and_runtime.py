"""Operator and runtime never import each other; these are the words that both must spell the same."""

from __future__ import annotations

from factories import IDENTITY, IMAGE, a_spec
from openmodel_operator import names, probe
from openmodel_operator.desired.pod import pod_template, with_revision
from openmodel_operator.golden_prompts import read_prompts
from openmodel_operator.reasons import Reason
from openmodel_runtime import errors
from openmodel_runtime.config import ServerConfig
from openmodel_runtime.front.health import LIVENESS
from openmodel_runtime.front.parse import parse_request
from openmodel_runtime.main import parse_flags


def test_the_runtime_takes_the_flags_that_the_operator_writes() -> None:
    spec = a_spec(
        engine={
            "dtype": "float32",
            "maxModelLen": 512,
            "maxNumSeqs": 7,
            "maxNumBatchedTokens": 99,
            "memoryUtilization": 0.5,
            "prefixCaching": False,
        },
        resources={"requests": {"cpu": 6}},
        parallelism={"expert": 4, "ranksPerPod": 2},
        rollout={"drainSeconds": 30},
    )
    template = with_revision(pod_template(IDENTITY, spec, IMAGE), "mixtral", "abc", 0)
    arguments = [
        # The kubelet puts in what the environment says.
        argument.replace("$(POD_INDEX)", "3").replace("$(POD_IP)", "10.0.0.7")
        for argument in template["spec"]["containers"][0]["args"]
    ]
    server, engine, group = parse_flags(arguments)
    assert str(server.model_path) == names.MODEL_PATH
    assert (server.model_name, server.model_version, server.drain_seconds) == ("mixtral", "abc", 30.0)
    assert str(server.termination_message_path) == "/dev/termination-log"
    assert (engine.dtype, engine.max_model_len, engine.max_num_seqs, engine.threads) == ("float32", 512, 7, 3)
    assert (engine.max_num_batched_tokens, engine.memory_utilization) == (99, 0.5)
    assert (group.ranks_per_pod, group.pod, group.address) == (2, 3, "10.0.0.7")
    assert group.peers.format(pod=0) == "mixtral-abc-0-0.mixtral-abc-0"
    assert str(group.settings) == f"{names.GROUP_PATH}/{names.GROUP_SETTINGS}"
    assert not engine.prefix_caching


def test_defaults_are_the_same_on_both_sides() -> None:
    template = with_revision(pod_template(IDENTITY, a_spec(), IMAGE), "mixtral", "abc", 0)
    _, engine, _ = parse_flags(template["spec"]["containers"][0]["args"])
    _, plain, _ = parse_flags(["--model=/x", "--threads=1"])
    assert engine == plain


def test_ports_and_probes_are_the_same() -> None:
    assert (
        ServerConfig.grpc_port,
        ServerConfig.metrics_port,
        ServerConfig.health_port,
    ) == (names.GRPC_PORT, names.METRICS_PORT, names.HEALTH_PORT)
    container = pod_template(IDENTITY, a_spec(), IMAGE)["spec"]["containers"][0]
    assert container["livenessProbe"]["grpc"]["service"] == LIVENESS


def test_start_errors_are_reasons() -> None:
    assert errors.EXIT_START_FAILED == names.EXIT_START_FAILED
    for error in errors.StartError.__subclasses__():
        if error.__module__ == errors.__name__:
            Reason(error.reason)


def test_golden_prompts_are_requests_that_the_runtime_understands() -> None:
    prompts = {
        "a": '{"text_input": "Hello", "max_tokens": 7}',
        "b": '{"messages": [{"role": "user", "content": "Hi"}]}',
    }
    for prompt in read_prompts("golden", prompts):
        parsed = parse_request(probe._golden("m", "r", prompt), {})
        assert parsed.sampling.params.temperature == 0
        assert parsed.sampling.params.max_tokens == prompt.max_tokens
        assert parsed.sampling.params.logprobs == 0


def test_the_proof_is_a_request_that_the_runtime_understands() -> None:
    parsed = parse_request(probe._one_token("m", "r"), {})
    assert parsed.sampling.params.temperature == 0
    assert parsed.sampling.params.max_tokens == 1
