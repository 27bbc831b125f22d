"""Damaged and hostile checkpoints are refused in words that name the file."""

from __future__ import annotations

import json
import pickle
import struct
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from checkpoints import write_tiny_llama
from openmodel_kernels.reference.kernels import ReferenceKernels
from openmodel_runtime.checkpoint.config_fields import ConfigFields, read_json
from openmodel_runtime.checkpoint.generation_config import read_default_sampling, read_eos_token_ids
from openmodel_runtime.checkpoint.model_card import card_license
from openmodel_runtime.checkpoint.tensor_files import read_header, tensor_entries
from openmodel_runtime.engine.loader import load_model
from openmodel_runtime.errors import CheckpointError, UnsupportedModel
from openmodel_runtime.models.layers import Numerics
from openmodel_runtime.models.registry import read_model_config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tiny_llama(tmp_path / "model", seed=1)
    return tmp_path / "model"


def load(folder: Path) -> None:
    config = read_model_config(ConfigFields(read_json(folder / "config.json")))
    load_model(folder, config, Numerics(ReferenceKernels(), torch.float32))


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_sound_checkpoint_loads(folder: Path) -> None:
    load(folder)


def test_a_missing_folder_and_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        read_json(tmp_path / "config.json")
    with pytest.raises(CheckpointError, match="neither"):
        tensor_entries(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 8, 60, 5000])
def test_a_truncated_file_is_named(folder: Path, keep: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is truncated"):
        load(folder)


def test_a_pickle_is_refused_and_never_opened(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(pickle.dumps({"weight": [1.0] * 100}))
    with pytest.raises(CheckpointError, match="pickle"):
        load(folder)
    file.rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pickle \(pytorch_model\.bin\).*safetensors"):
        load(folder)


def test_another_kind_of_file_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"this is a text, and no safetensors file at all")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load(folder)


def test_an_index_that_names_a_missing_or_foreign_file(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    for name in ("other.safetensors", "../model/model.safetensors"):
        index.write_text(json.dumps({"weight_map": {"x": name}}))
        with pytest.raises(CheckpointError, match="missing"):
            load(folder)
    index.write_text("{}")
    with pytest.raises(CheckpointError, match="weight_map"):
        load(folder)


def test_missing_odd_and_misshapen_tensors_are_named(folder: Path) -> None:
    change_config(folder, num_hidden_layers=3)
    with pytest.raises(CheckpointError, match=r"lacks .* model\.layers\.2"):
        load(folder)
    change_config(folder, num_hidden_layers=1)
    with pytest.raises(CheckpointError, match=r"does not.*model\.layers\.1"):
        load(folder)
    change_config(folder, num_hidden_layers=2, intermediate_size=7)
    with pytest.raises(CheckpointError, match=r"mlp.*shape"):
        load(folder)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "GPT2LMHeadModel"),
        ({"architectures": []}, "architectures"),
        ({"quantization_config": {"quant_method": "awq"}}, "awq"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "longrope"),
        ({"rope_parameters": {"rope_type": "default", "llama_4_scaling_beta": 0.1}}, "llama_4_scaling_beta"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"sliding_window": 8, "layer_types": ["full_attention", "linear_attention"]}, "linear_attention"),
        ({"hidden_act": "gelu"}, "gelu"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(folder: Path, changes: dict[str, object], named: str) -> None:
    change_config(folder, **changes)
    with pytest.raises(UnsupportedModel, match=named):
        load(folder)


def test_a_config_without_a_field_names_it(folder: Path) -> None:
    change_config(folder)
    raw = json.loads((folder / "config.json").read_text())
    del raw["vocab_size"]
    with pytest.raises(CheckpointError, match="vocab_size"):
        read_model_config(ConfigFields(raw))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_model_config(ConfigFields({**raw, "vocab_size": "many"}))
    for odd in ({"num_attention_heads": 0}, {"rope_scaling": [1]}, {"hidden_size": None}):
        with pytest.raises(CheckpointError, match=r"config\.json"):
            read_model_config(ConfigFields({**raw, "vocab_size": 512, **odd}))
    with pytest.raises(UnsupportedModel, match="bits"):
        read_model_config(ConfigFields({**raw, "vocab_size": 512, "quantization_config": {"quant_method": "bits"}}))


@given(st.binary(max_size=200))
def test_no_header_breaks_the_reader(data: bytes) -> None:
    """Any bytes as a header: read or refused, never another exception."""
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as stream:
        for content in (data, struct.pack("<Q", len(data)) + data):
            Path(stream.name).write_bytes(content)
            with suppress(CheckpointError):
                read_header(Path(stream.name))


def test_end_tokens_and_default_sampling(tmp_path: Path) -> None:
    assert read_eos_token_ids(tmp_path, {"eos_token_id": 3}) == {3}
    assert read_eos_token_ids(tmp_path, {}) == set()
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [1, 2], "temperature": 0.6, "max_length": 9}')
    assert read_eos_token_ids(tmp_path, {"eos_token_id": 3}) == {1, 2}
    assert read_default_sampling(tmp_path) == {"temperature": 0.6}


def test_the_cards_licence(tmp_path: Path) -> None:
    assert card_license(tmp_path) == ""
    card = tmp_path / "README.md"
    card.write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# Card\nlicense: mit\n")
    assert card_license(tmp_path) == "apache-2.0"
    card.write_text("# Card\nlicense: mit\n")
    assert card_license(tmp_path) == ""
