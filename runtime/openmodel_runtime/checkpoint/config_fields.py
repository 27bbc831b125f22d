"""Fields of `config.json`, read one by one with an error that names the field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openmodel_runtime.errors import CheckpointError, UnsupportedModel


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; CheckpointError when there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path.name} is missing: not a Hugging Face checkpoint") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path.name} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path.name} must hold a JSON object")
    return value


class ConfigFields:
    """The fields of one object. A field that is null is one that is not there."""

    def __init__(self, raw: Mapping[str, Any], where: str = "config.json") -> None:
        self._raw = raw
        self._where = where

    def has(self, name: str) -> bool:
        """True when the field says something."""
        return self._raw.get(name) is not None

    def size(self, name: str, default: int | None = None) -> int:
        """A whole number from 1 on."""
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise CheckpointError(f"{self._where}: {name} must be a whole number, not {value!r}")
        if value < 1:
            raise CheckpointError(f"{self._where}: {name} must be at least 1, not {value}")
        return value

    def optional_size(self, name: str) -> int | None:
        """A whole number from 1 on, or None where there is none; 0 is none too."""
        return self.size(name) if self._raw.get(name) else None

    def number(self, name: str, default: float | None = None) -> float:
        """Any number."""
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CheckpointError(f"{self._where}: {name} must be a number, not {value!r}")
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self._get(name, default)
        if not isinstance(value, bool):
            raise CheckpointError(f"{self._where}: {name} must be true or false, not {value!r}")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A string."""
        value = self._get(name, default)
        if not isinstance(value, str):
            raise CheckpointError(f"{self._where}: {name} must be a string, not {value!r}")
        return value

    def items(self, name: str) -> list[Any]:
        """A list; empty where there is none."""
        value = self._get(name, [])
        if not isinstance(value, list):
            raise CheckpointError(f"{self._where}: {name} must be a list, not {value!r}")
        return value

    def object(self, name: str) -> ConfigFields:
        """The fields of an object; none where there is none."""
        value = self._get(name, {})
        if not isinstance(value, dict):
            raise CheckpointError(f"{self._where}: {name} must be an object, not {value!r}")
        return ConfigFields(value, f"{self._where}: {name}")

    def refuse(self, *names: str) -> None:
        """UnsupportedModel when one of the fields asks for something: it would be computed wrongly."""
        for name in names:
            if self._raw.get(name):
                raise UnsupportedModel(f"{self._where}: {name} {self._raw[name]!r} is not supported")

    def must_be(self, name: str, *wanted: str) -> str:
        """The field, which has one of these values; the first where it is not there."""
        value = self.text(name, wanted[0])
        if value not in wanted:
            raise UnsupportedModel(f"{self._where}: {name} {value!r} is not supported")
        return value

    def _get(self, name: str, default: Any) -> Any:
        value = self._raw.get(name)
        if value is None:
            value = default
        if value is None:
            raise CheckpointError(f"{self._where} lacks {name}")
        return value


def architecture_of(fields: ConfigFields) -> str:
    """First entry of `architectures`."""
    architectures = fields.items("architectures")
    if not architectures:
        raise UnsupportedModel("config.json names no architectures")
    return str(architectures[0])
