"""The table of what each family is proven by: `python -m families.proofs`, in `tests`, writes it.

It is read off the tests themselves: a cell is there when the test of its column runs for the model of its row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from families import test_parity, test_published_shapes, test_structured
from families.catalog import GROK_1, MODELS, SERVED
from families.pages import DOCS, page_with
from families.published import MODELS as PUBLISHED

PAGE = DOCS / "families.md"
_COLUMNS: dict[str, Callable[..., None]] = {
    "Parity": test_parity.test_logits_and_greedy_tokens_are_transformers,
    "Prefill is decode": test_parity.test_chunks_and_company_change_no_bit,
    "Eight bits": test_parity.test_weights_in_eight_bits,
    "Structured output": test_structured.test_a_pattern_is_followed_alone_and_beside_others,
}


def table() -> str:
    """A row for each small model."""
    tests = [f"{title} (`{test.__name__}`)" for title, test in _COLUMNS.items()]
    shapes = f"Real shapes (`{test_published_shapes.test_every_tensor_has_its_place.__name__}`)"
    lines = [f"| Model | {' | '.join([*tests, shapes])} |", "|---" * (len(tests) + 2) + "|"]
    for name in SERVED:
        cells = ["yes" if name in _cases(test) else "" for test in _COLUMNS.values()]
        if name == GROK_1:
            cells[0] = f"`{test_parity.test_grok_1_is_the_published_code.__name__}`"
        lines.append(f"| {name} | {' | '.join([*cells, _real_shapes(name)])} |")
    return "\n".join(lines) + "\n"


def _real_shapes(name: str) -> str:
    if name == GROK_1:
        return f"`{test_published_shapes.test_grok_1.__name__}`"
    return ", ".join(published for published, each in PUBLISHED.items() if each.config is MODELS[name].config)


def _cases(test: Any) -> Iterable[str]:
    """The models that a test runs for."""
    (mark,) = [mark for mark in test.pytestmark if mark.name == "parametrize"]
    names: Iterable[str] = mark.args[1]
    return names


if __name__ == "__main__":
    PAGE.write_text(page_with(PAGE, table()))
