"""What `openmodel-fetch inspect` tells, and what the operator makes of it, against what a rank then loads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from checkpoints import write_tiny_llama, write_tiny_mixtral
from factories import IDENTITY, IMAGE, a_spec
from openmodel_fetch.main import main
from openmodel_kernels.reference.kernels import ReferenceKernels
from openmodel_operator import names
from openmodel_operator.desired.fetch_jobs import inspection_job, verification_job
from openmodel_operator.inspection import Inspection, read_summary
from openmodel_operator.memory_plan import MemoryPlan
from openmodel_operator.model_plan import plan_model
from openmodel_operator.reasons import Reason
from openmodel_runtime.checkpoint.config_fields import ConfigFields, read_json
from openmodel_runtime.engine.loader import load_model
from openmodel_runtime.models.layers import Numerics, weight_bytes
from openmodel_runtime.models.registry import read_model_config


def inspect(folder: Path, told: Path) -> int:
    """As the Job of the operator runs it, with other paths."""
    (container,) = inspection_job(IDENTITY, a_spec(), IMAGE)["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python3", "-m", "openmodel_fetch"]
    return run(container["args"], folder, told)


def run(arguments: Sequence[str], folder: Path, told: Path) -> int:
    """With these paths for a pod's."""
    for before, after in {
        f"--model={names.MODEL_PATH}": f"--model={folder}",
        "/dev/termination-log": str(told),
    }.items():
        arguments = [argument.replace(before, after) for argument in arguments]
    return main(arguments)


def inspection_of(folder: Path) -> Inspection:
    told = folder.parent / "told"
    assert inspect(folder, told) == 0
    assert len(told.read_bytes()) < 4096
    return read_summary(told.read_text())


@pytest.mark.parametrize("write", [write_tiny_llama, write_tiny_mixtral])
@pytest.mark.parametrize("tied", [True, False])
def test_what_a_rank_loads_is_what_was_planned(write: object, tied: bool, tmp_path: Path) -> None:
    assert callable(write)
    folder = write(tmp_path / "model", dtype=torch.bfloat16, tie_word_embeddings=tied)
    inspection = inspection_of(folder)
    config = read_model_config(ConfigFields(read_json(folder / "config.json")))
    loaded = load_model(folder, config, Numerics(ReferenceKernels(), torch.bfloat16))
    assert inspection.parameters == loaded.parameters
    assert inspection.active_parameters == loaded.active_parameters
    plan = plan_model(a_spec(), inspection)
    assert isinstance(plan, MemoryPlan)
    assert plan.bill.weights == weight_bytes(loaded.model)


@pytest.mark.parametrize(
    ("damage", "reason", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), Reason.INVALID_CHECKPOINT, "config.json is missing"),
        (lambda folder: (folder / "model.safetensors").unlink(), Reason.INVALID_CHECKPOINT, "neither"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"PK\x03\x04" + b"x" * 99),
            Reason.INVALID_CHECKPOINT,
            "pickle",
        ),
        (
            lambda folder: (folder / "config.json").write_text('{"architectures": ["BertModel"]}'),
            Reason.UNSUPPORTED_MODEL,
            "BertModel",
        ),
    ],
)
def test_what_is_wrong_is_told(damage: object, reason: Reason, message: str, tmp_path: Path) -> None:
    assert callable(damage)
    folder = write_tiny_llama(tmp_path / "model")
    damage(folder)
    assert inspect(folder, tmp_path / "told") == names.EXIT_START_FAILED
    told = json.loads((tmp_path / "told").read_text())
    assert Reason(told["reason"]) is reason
    assert message in told["message"]


def test_a_checkpoint_of_another_shape_than_its_configuration_says_is_found_before_it_is_loaded(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] += 1
    (folder / "config.json").write_text(json.dumps(config))
    assert inspect(folder, tmp_path / "told") == names.EXIT_START_FAILED
    assert "lacks" in (tmp_path / "told").read_text()


def test_a_mounted_checkpoints_digest_is_found_and_held_to_what_is_pinned(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "model")
    lines = sorted(
        f"{path.relative_to(folder)} {path.stat().st_size} {hashlib.sha256(path.read_bytes()).hexdigest()}\n"
        for path in folder.iterdir()
    )
    pinned = "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()
    # What a fetch notes is not the checkpoint's.
    (folder / "openmodel-manifest.json").write_text("{}")
    assert verify(folder, pinned, tmp_path / "told") == 0
    assert json.loads((tmp_path / "told").read_text()) == {"digest": pinned}
    (folder / "more").mkdir()
    (folder / "more/file").write_text("of somebody else")
    assert verify(folder, pinned, tmp_path / "told") == 78
    told = json.loads((tmp_path / "told").read_text())
    assert told["reason"] == "DigestMismatch"
    assert told["message"].startswith("spec.model.digest: the checkpoint has sha256:")


def verify(folder: Path, digest: str, told: Path) -> int:
    """As the Job of the operator runs it, with other paths."""
    job = verification_job(IDENTITY, a_spec(), IMAGE, digest)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return run(container["args"], folder, told)
