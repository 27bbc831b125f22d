"""Our protocol files are the ones that tritonclient registers, and the generated code is fresh."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from openmodel_protos import grpc_service_pb2, model_config_pb2

ROOT = Path(__file__).resolve().parents[2]


def test_descriptors_equal_tritonclients() -> None:
    """Byte for byte; both may then live in one process, as they do in this one."""
    from tritonclient.grpc import model_config_pb2 as their_config
    from tritonclient.grpc import service_pb2 as their_service

    assert grpc_service_pb2.DESCRIPTOR.serialized_pb == their_service.DESCRIPTOR.serialized_pb
    assert model_config_pb2.DESCRIPTOR.serialized_pb == their_config.DESCRIPTOR.serialized_pb


def test_generated_code_is_fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "hack/protos"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    import generate

    for path in generate.generate(tmp_path):
        committed = ROOT / "protos/openmodel_protos" / path.name
        assert committed.read_text() == path.read_text(), f"run hack/protos/generate.py: {path.name} is stale"
