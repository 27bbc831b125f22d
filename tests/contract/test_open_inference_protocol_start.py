"""A runtime that can not start says why and ends; nothing waits for ever."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from contract.infer_requests import Requests, request, streamed, text_of
from contract.runtime_server import RuntimeServer, long_llama, until
from openmodel_protos import grpc_service_pb2 as pb
from openmodel_runtime.errors import EXIT_START_FAILED


def truncated(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def set_config(**fields: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = folder / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), **fields}))

    return change


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def garbled(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(b"{\xff")

    return change


# What is done to a good checkpoint, the reason of the end, and what its message names.
BROKEN: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "truncated": (truncated, "InvalidCheckpoint", "model.safetensors"),
    "pickle": (pickled, "InvalidCheckpoint", "pytorch_model.bin"),
    "architecture": (set_config(architectures=["Grok1ForCausalLM"]), "UnsupportedModel", "Grok1ForCausalLM"),
    "no tokenizer": (without("tokenizer.json"), "InvalidCheckpoint", "tokenizer.json"),
    "garbled tokenizer": (garbled("tokenizer.json"), "InvalidCheckpoint", "tokenizer.json"),
    "no config": (without("config.json"), "InvalidCheckpoint", "config.json"),
    "garbled generation config": (garbled("generation_config.json"), "InvalidCheckpoint", "generation_config.json"),
    "shape": (set_config(intermediate_size=96), "InvalidCheckpoint", "mlp.gate_proj.weight"),
    "no room": (set_config(max_position_embeddings=1 << 60), "InsufficientMemory", "maxModelLen"),
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RuntimeServer]]:
    """A runtime on each broken checkpoint, all at once, each with the reason of its own end."""
    servers: dict[str, RuntimeServer] = {}
    try:
        for kind, (damage, _, _) in BROKEN.items():
            folder = tmp_path_factory.mktemp("broken")
            damage(long_llama(folder / "model"))
            servers[kind] = RuntimeServer(folder / "model", folder)
        yield servers
    finally:
        for server in servers.values():
            server.close()


@pytest.mark.parametrize("kind", BROKEN)
def test_the_runtime_ends_with_78_and_says_why(broken: dict[str, RuntimeServer], kind: str) -> None:
    server, (_, reason, name) = broken[kind], BROKEN[kind]
    assert server.wait() == EXIT_START_FAILED, server.log.read_text()
    told = json.loads(server.termination_message.read_text())
    assert (told["reason"], name in told["message"]) == (reason, True), told
    assert server.log.read_text().count("Traceback") == 0


@pytest.fixture
def deadly_torch(tmp_path: Path) -> Path:
    """A folder whose torch ends whoever imports it: a rank before it has loaded, and never the front."""
    (tmp_path / "path/torch").mkdir(parents=True)
    (tmp_path / "path/torch/__init__.py").write_text("raise SystemExit(3)\n")
    return tmp_path / "path"


def test_three_ranks_that_die_before_they_have_loaded_end_the_runtime(
    tiny_checkpoint: Path, tmp_path: Path, deadly_torch: Path
) -> None:
    """The calls that are open then hold up nobody."""
    server = RuntimeServer(tiny_checkpoint, tmp_path, path_first=deadly_torch)
    try:
        with server.stub() as stub:
            call = stub.ModelStreamInfer(iter(Requests(streamed(id="1"))), wait_for_ready=True)
            assert "the model is loading" in next(call).error_message
            with pytest.raises(grpc.RpcError) as refused:
                stub.ModelInfer(request())
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
            with pytest.raises(grpc.RpcError) as refused:
                stub.ModelConfig(pb.ModelConfigRequest(name="tiny"))
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
            assert not stub.ServerReady(pb.ServerReadyRequest()).ready
            (model,) = stub.RepositoryIndex(pb.RepositoryIndexRequest()).models
            assert (model.state, model.reason) == ("UNAVAILABLE", "loading")
            assert not stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True)).models
            with pytest.raises(grpc.RpcError) as ended:
                list(call)
            assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
        assert server.wait() == 1
        assert "died 3 times in a row before their model was loaded" in server.log.read_text()
    finally:
        server.close()


def test_weights_in_eight_bits_take_less_and_answer(tiny_checkpoint: Path, tmp_path: Path) -> None:
    sizes, texts = [], []
    for flag in ("--quantization=auto", "--quantization=int8"):
        server = RuntimeServer(tiny_checkpoint, tmp_path, [flag])
        try:
            server.wait_until_ready()
            with server.stub() as stub:
                config = stub.ModelConfig(pb.ModelConfigRequest(name="tiny")).config
                sizes.append(int(config.parameters["weight_bytes"].string_value))
                texts.append(text_of(stub.ModelInfer(request())))
        finally:
            server.close()
    assert sizes[1] < 0.4 * sizes[0]
    assert all(texts)


def test_a_runtime_that_is_still_loading_ends_at_once(tiny_checkpoint: Path, tmp_path: Path) -> None:
    server = RuntimeServer(tiny_checkpoint, tmp_path)
    try:
        with server.stub() as stub:
            assert stub.ServerLive(pb.ServerLiveRequest(), wait_for_ready=True).live
        assert server.end() == 0
    finally:
        server.close()


def test_a_rank_does_not_outlive_its_front(tiny_checkpoint: Path, tmp_path: Path) -> None:
    server = RuntimeServer(tiny_checkpoint, tmp_path).wait_until_ready()
    try:
        rank = Path(f"/proc/{server.rank()}")
        server.process.kill()
        server.wait()
        until(lambda: not rank.exists(), "the rank has ended")
    finally:
        server.close()


@pytest.mark.parametrize("flag", ["--grpc-port", "--metrics-port", "--health-port"])
def test_a_port_that_is_taken_ends_the_runtime(
    server: RuntimeServer, tiny_checkpoint: Path, tmp_path: Path, flag: str
) -> None:
    taken = {"--grpc-port": server.port, "--metrics-port": server.metrics_port, "--health-port": server.health_port}
    second = RuntimeServer(tiny_checkpoint, tmp_path, [f"{flag}={taken[flag]}"])
    try:
        assert second.wait() == 1
    finally:
        second.close()
