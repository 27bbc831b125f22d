"""The safetensors files of a checkpoint: which there are, and whether each is whole.

The header is checked here before a byte of data is trusted: its size, its JSON, and that the data it promises is there.
Knows no model: what the tensors mean is the loader's business.
Format: an 8-byte little-endian header length, a JSON header, then the data
(https://huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openmodel_runtime.checkpoint.config_fields import read_json
from openmodel_runtime.errors import CheckpointError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_MAX_HEADER_BYTES = 100 << 20
# Formats that execute code when they are read, or may: never opened, refused by name.
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """Where one tensor lies."""

    file: Path
    dtype: str
    """safetensors' name of the dtype: F32, BF16, …"""
    shape: tuple[int, ...]
    begin: int
    """First byte, counted from the start of the file."""
    end: int
    """One past the last byte."""


def tensor_entries(folder: Path) -> dict[str, TensorEntry]:
    """Every tensor of the checkpoint by name; CheckpointError names the file that is wrong."""
    entries: dict[str, TensorEntry] = {}
    for file in _tensor_files(folder):
        for name, entry in read_header(file).items():
            if name in entries:
                raise CheckpointError(f"tensor {name} is in {entries[name].file.name} and again in {file.name}")
            entries[name] = entry
    return entries


def _tensor_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder")
    index = folder / INDEX
    if index.exists():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{INDEX} has no weight_map")
        files = [folder / str(name) for name in sorted(set(weight_map.values()))]
        for file in files:
            if file.parent != folder or not file.is_file():
                raise CheckpointError(f"{INDEX} names {file.name}, which is missing")
        return files
    single = folder / SINGLE
    if single.is_file():
        return [single]
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
    if pickles:
        raise CheckpointError(
            f"the checkpoint is a Python pickle ({pickles[0]}), which could run code when read and is never "
            "opened: convert it to safetensors"
        )
    raise CheckpointError(f"the checkpoint has neither {SINGLE} nor {INDEX}")


def read_header(file: Path) -> dict[str, TensorEntry]:
    """The tensors of one safetensors file, after checking that the file is whole."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        if start[:2] in (b"PK", b"\x80\x02", b"\x80\x04"):
            raise CheckpointError(
                f"{file.name} is a Python pickle, not safetensors: convert the checkpoint to safetensors"
            )
        if len(start) < 8:
            raise CheckpointError(f"{file.name} is truncated: {size} bytes, no header")
        (header_bytes,) = struct.unpack("<Q", start)
        if header_bytes > _MAX_HEADER_BYTES:
            raise CheckpointError(f"{file.name} is not a safetensors file: no valid header length")
        if 8 + header_bytes > size:
            raise CheckpointError(
                f"{file.name} is truncated: its header needs {8 + header_bytes} bytes, the file has {size}"
            )
        try:
            header = json.loads(stream.read(header_bytes))
        except (UnicodeDecodeError, json.JSONDecodeError):
            raise CheckpointError(f"{file.name} is not a safetensors file: its header is not JSON") from None
    if not isinstance(header, dict):
        raise CheckpointError(f"{file.name} is not a safetensors file: its header is no object")
    header.pop("__metadata__", None)
    entries = {name: _entry(file, name, raw, 8 + header_bytes, size) for name, raw in header.items()}
    return entries


def _entry(file: Path, name: str, raw: Mapping[str, Any], data: int, size: int) -> TensorEntry:
    try:
        begin, end = raw["data_offsets"]
        shape = tuple(int(dim) for dim in raw["shape"])
        entry = TensorEntry(
            file=file,
            dtype=str(raw["dtype"]),
            shape=shape,
            begin=data + int(begin),
            end=data + int(end),
        )
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{file.name} is not a safetensors file: entry {name} is malformed") from None
    if not data <= entry.begin <= entry.end:
        raise CheckpointError(f"{file.name} is not a safetensors file: entry {name} lies outside its data")
    if entry.end > size:
        raise CheckpointError(f"{file.name} is truncated: {name} needs {entry.end} bytes, the file has {size}")
    return entry
