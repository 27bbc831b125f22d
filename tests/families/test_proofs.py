"""The page of families has every architecture, and says of each what its tests prove."""

from __future__ import annotations

import re

from openmodel_runtime.models.registry import FAMILIES

from .pages import page_with
from .proofs import PAGE, table


def test_the_page_has_every_architecture() -> None:
    assert set(re.findall(r"`(\w+ForCausalLM)`", PAGE.read_text())) == FAMILIES.keys()


def test_the_page_is_what_the_tests_prove() -> None:
    assert PAGE.read_text() == page_with(PAGE, table())
