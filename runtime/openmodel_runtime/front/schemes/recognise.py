"""Which scheme a request uses, by the names of its tensors.

Pure. A name that is in one scheme alone decides; tensors that no scheme has together are refused, both named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

from openmodel_runtime.errors import InvalidRequest
from openmodel_runtime.front.schemes.llm_api import LLM_API
from openmodel_runtime.front.schemes.tensorrt_llm import TENSORRT_LLM
from openmodel_runtime.front.schemes.vllm import VLLM
from openmodel_runtime.front.signature import Scheme, TensorSignature

SCHEMES = (VLLM, TENSORRT_LLM, LLM_API)
"""The first one that has all tensors of a request is its scheme."""


def _of_all(tables: Iterable[Iterable[TensorSignature]]) -> tuple[TensorSignature, ...]:
    """The tensors that may be used, each once."""
    return tuple({each.name: each for table in tables for each in table if each.offered}.values())


INPUTS = _of_all(scheme.inputs for scheme in SCHEMES)
"""Inputs of all schemes that may have elements."""
OUTPUTS = _of_all(scheme.outputs for scheme in SCHEMES)
"""Outputs of all schemes that are answered."""


def _owners(tables: Iterable[Iterable[TensorSignature]]) -> Mapping[str, frozenset[int]]:
    owners: dict[str, set[int]] = {}
    for number, table in enumerate(tables):
        for each in table:
            owners.setdefault(each.name, set()).add(number)
    return {name: frozenset(numbers) for name, numbers in owners.items()}


_INPUT_OWNERS = _owners(scheme.inputs for scheme in SCHEMES)
_OUTPUT_OWNERS = _owners(scheme.outputs for scheme in SCHEMES)


def recognise(inputs: Iterable[str], outputs: Iterable[str]) -> tuple[Scheme, str | None]:
    """The request's scheme, and the input or output that decided it, None when every scheme would do.

    InvalidRequest for a name that no scheme has, and for two names that no scheme has together.
    """
    owners: dict[str, frozenset[int]] = {}
    for kind, names, known, table in (
        ("input", inputs, _INPUT_OWNERS, INPUTS),
        ("output", outputs, _OUTPUT_OWNERS, OUTPUTS),
    ):
        for name in names:
            if name not in known:
                listed = ", ".join(each.name for each in table)
                raise InvalidRequest(f"unknown {kind} {name!r}; known: {listed}")
            owners[f"{kind} {name!r}"] = known[name]
    left = frozenset(range(len(SCHEMES))).intersection(*owners.values())
    if not left:
        raise InvalidRequest(_mixed(owners))
    scheme = SCHEMES[min(left)]
    own = (name for name, numbers in owners.items() if len(numbers) == 1)
    return scheme, next(own, None)


def _mixed(owners: Mapping[str, frozenset[int]]) -> str:
    for (first, of_first), (second, of_second) in combinations(owners.items(), 2):
        if not of_first & of_second:
            titles = [SCHEMES[min(numbers)].title for numbers in (of_first, of_second)]
            return (
                f"{first} is one of {titles[0]} names and {second} one of {titles[1]}: "
                "use the names of one scheme in a request"
            )
    some = [name for name, numbers in owners.items() if len(numbers) < len(SCHEMES)]
    return f"no scheme has {' and '.join(some)} together: use the names of one scheme in a request"
