"""What a checkpoint is, as the runtime image's `openmodel-fetch inspect` tells it.

Pure. The summary's form is that program's; one that can not be read is as good as none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

from openmodel_operator.memory_plan import ModelShape

_VERSION = 1


class SummaryError(ValueError):
    """The text is not a summary in the form that this operator reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """A checkpoint."""

    architecture: str
    dtype: str
    """The configuration's own: what `engine.dtype: auto` means."""
    license: str
    """As the model card has it; "" when it says nothing."""
    parameters: int
    active_parameters: int
    """That one token meets."""
    max_model_len: int
    """Positions that the model was made for."""
    prompt_tokens_on_cpu: int
    """Tokens of prompts that a step on a CPU takes at most."""
    shape: ModelShape
    commit: str = ""
    """Of a hub's model: what its revision was when it was inspected."""
    download_bytes: int = 0
    """Of a hub's model: what fetching it takes."""


def read_summary(text: str) -> Inspection:
    """The inspection that a summary tells of; SummaryError when it tells of none."""
    try:
        told: dict[str, Any] = json.loads(text)
        if told["version"] != _VERSION:
            raise SummaryError(f"the summary is of form {told['version']}, not {_VERSION}")
        shape = ModelShape(**{field.name: told["shape"][field.name] for field in fields(ModelShape)})
        known = {field.name: told[field.name] for field in fields(Inspection) if field.name in told.keys() - {"shape"}}
        return Inspection(**known, shape=shape)
    except (ValueError, KeyError, TypeError) as error:
        raise SummaryError(f"the summary of the inspection can not be read: {error!r}") from None
