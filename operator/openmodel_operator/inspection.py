"""What a checkpoint is, as the runtime image's `openmodel-fetch inspect` tells it.

Pure. The summary's form is that program's; one that can not be read is as good as none.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields
from typing import Any

from openmodel_operator.memory_plan import ModelShape

SUMMARY_FORM = 1
"""Of the summary that is read here: another is looked for under another name."""

_COMMIT = re.compile(r"|[0-9a-f]{40,64}")


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
        if told["version"] != SUMMARY_FORM:
            raise SummaryError(f"the summary is of form {told['version']}, not {SUMMARY_FORM}")
        shape = ModelShape(**{field.name: told["shape"][field.name] for field in fields(ModelShape)})
        known = {field.name: told[field.name] for field in fields(Inspection) if field.name in told.keys() - {"shape"}}
        found = Inspection(**known, shape=shape)
    except (ValueError, KeyError, TypeError) as error:
        raise SummaryError(f"the summary of the inspection can not be read: {error!r}") from None
    odd = [*_odd(found), *_odd(found.shape)]
    if odd or not _COMMIT.fullmatch(found.commit):
        raise SummaryError(f"the summary of the inspection can not be right: {', '.join(odd) or 'commit'}")
    return found


def _odd(told: Inspection | ModelShape) -> list[str]:
    """Numbers that are none, or are negative."""
    values = {field.name: getattr(told, field.name) for field in fields(told) if field.type in ("int", "float")}
    return [name for name, value in values.items() if not isinstance(value, (int, float)) or value < 0]
