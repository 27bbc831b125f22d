"""The parts of a checkpoint that a rank reads: everything but the experts that others hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from torch import Tensor

from openmodel_runtime.models.family import WeightPart
from openmodel_runtime.parallel.placement import Slots

_EXPERTS = re.compile(r"^blocks\.(\d+)\.feed_forward\.experts\.")


def experts_path(layer: int) -> str:
    """Where a layer's experts are in the model."""
    return f"blocks.{layer}.feed_forward.experts"


def layer_of(part: WeightPart) -> int | None:
    """The layer whose experts a part belongs to; None when it belongs to no expert."""
    found = _EXPERTS.match(part.parameter)
    return None if found is None else int(found[1])


def parts_of_slots(parts: Iterable[WeightPart], slots: Mapping[int, Slots]) -> Iterator[WeightPart]:
    """The parts with experts put into their slots; those of experts that have none are left out."""
    for part in parts:
        layer = layer_of(part)
        if layer is None:
            yield part
            continue
        held = slots.get(layer, ())
        if not part.index:
            # One tensor of all experts, of a few numbers each: read whole.
            yield replace(part, make=_Picked(part.make, held))
            continue
        expert, *rest = part.index
        for slot, placed in enumerate(held):
            if placed == expert:
                yield replace(part, index=(slot, *rest))


class _Picked:
    """The held experts' rows of what a part makes."""

    def __init__(self, make: Callable[..., Tensor] | None, held: Slots) -> None:
        self._make = make
        self._held = list(held)

    def __call__(self, *read: Tensor) -> Tensor:
        whole = read[0] if self._make is None else self._make(*read)
        return whole[self._held]
