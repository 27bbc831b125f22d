"""Tables that tests write into pages of the documentation."""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs" / "models"
_BEGIN, _END = "<!-- table -->\n", "<!-- end of table -->\n"


def page_with(page: Path, table: str) -> str:
    """The page with this table in place of the one that it has."""
    before, rest = page.read_text().split(_BEGIN)
    return before + _BEGIN + table + _END + rest.split(_END)[1]
