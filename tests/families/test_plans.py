"""The planner at real sizes."""

from __future__ import annotations

import pytest

from .pages import page_with
from .plans import PAGE, config_of, request, table
from .published import GROK_1_BILLIONS, MODELS
from .shapes import shape_of


@pytest.mark.parametrize("name", [*MODELS, "Grok-1"])
def test_shapes_add_up(name: str) -> None:
    shape = shape_of(config_of(name))
    total = shape.replicated + shape.expert * shape.experts * shape.routed_layers
    billions = GROK_1_BILLIONS if name == "Grok-1" else MODELS[name].billions
    assert total / 1e9 == pytest.approx(billions, rel=0.01)
    assert request(1, 2.0, 1).memory_bytes == 80 << 30


def test_the_page_is_what_the_planner_says() -> None:
    assert PAGE.read_text() == page_with(PAGE, table())
