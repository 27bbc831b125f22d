"""What a checkpoint says about generating: end tokens and default sampling.

vLLM's rule: `generation_config.json` overrides `config.json`, and its sampling values are the defaults of a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openmodel_runtime.checkpoint.config_fields import read_json
from openmodel_runtime.errors import CheckpointError

_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


def _generation_config(folder: Path) -> dict[str, Any]:
    path = folder / "generation_config.json"
    return read_json(path) if path.exists() else {}


def read_eos_token_ids(folder: Path, config: Mapping[str, Any]) -> frozenset[int]:
    """Tokens that end a completion; the field may be one id, a list or absent."""
    value = _generation_config(folder).get("eos_token_id", config.get("eos_token_id"))
    if value is None:
        return frozenset()
    try:
        return frozenset(int(token) for token in (value if isinstance(value, list) else [value]))
    except (TypeError, ValueError):
        raise CheckpointError(f"eos_token_id must be an id or a list of ids, not {value!r}") from None


def read_default_sampling(folder: Path) -> dict[str, Any]:
    """Sampling parameters that the checkpoint recommends, by vLLM's names."""
    config = _generation_config(folder)
    return {name: config[name] for name in _SAMPLING if config.get(name) is not None}
