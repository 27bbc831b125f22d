"""What a tensor and a naming scheme are: the words in which `schemes` writes its tables.

Knows no scheme and no request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openmodel_runtime.front.inputs import Inputs
    from openmodel_runtime.front.tensors import Value

SCALAR = (1,)
"""One element; the batch dimension that TensorRT-LLM's clients send before it is accepted."""
LIST = (-1,)
"""Any number of elements, with or without that batch dimension."""


@dataclass(frozen=True, slots=True)
class TensorSignature:
    """Name, datatype and shape of a tensor; -1 is any length."""

    name: str
    datatype: str
    shape: tuple[int, ...] = SCALAR
    only: tuple[Value, ...] | None = None
    """Of an input whose feature is not offered: the values that ask for nothing. () when none does, so that the tensor
    must be empty or absent; such a tensor is in no description of the model. None: every value has a meaning."""

    @property
    def offered(self) -> bool:
        """True when the tensor may be sent or asked for with elements in it."""
        return self.only != ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the tensors of one scheme ask for, in words that all schemes share."""

    stream: bool
    echo_prompt: bool
    sampling: Mapping[str, Any] | None
    """Sampling parameters by vLLM's names; None: those among the request's parameters count."""
    called: Mapping[str, str] = field(default_factory=dict)
    """The caller's own name of a sampling parameter, where it is another."""
    outputs: frozenset[str] = frozenset()
    """Outputs that flags among the inputs add."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """One known way to name the tensors of a generation."""

    title: str
    inputs: tuple[TensorSignature, ...]
    outputs: tuple[TensorSignature, ...]
    """In the order in which they are answered."""
    read: Callable[[Inputs], Wanted]
    """Reads the inputs; InvalidRequest names the one that is wrong."""
