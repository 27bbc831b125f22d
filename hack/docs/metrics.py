"""Writes the tables of docs/reference/metrics.md from the one table of metrics. `--check`: says whether they are so."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from openmodel_telemetry import metrics
from openmodel_telemetry.instrument import Instrument, Kind

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/metrics.md"
_KINDS = {Kind.UP_DOWN_COUNTER: "gauge", Kind.OBSERVED_GAUGE: "gauge"}


def page(text: str) -> str:
    """The page with its tables anew."""
    for name, instruments in (("runtime", metrics.RUNTIME), ("operator", metrics.OPERATOR), ("router", metrics.ROUTER)):
        text = _between(text, name, _table(instruments))
    return text


def _between(text: str, name: str, table: str) -> str:
    begin, end = f"<!-- metrics of the {name} -->\n", "<!-- end -->\n"
    before, found, rest = text.partition(begin)
    if not found:
        raise SystemExit(f"{PAGE} has no line {begin!r}")
    return before + begin + table + end + rest.partition(end)[2]


def _table(instruments: Sequence[Instrument]) -> str:
    lines = ["| OpenTelemetry | Prometheus | Kind, unit | Attributes | Meaning |", "|---|---|---|---|---|"]
    for item in instruments:
        kind = _KINDS.get(item.kind, item.kind.value)
        unit = item.unit.strip("{}")
        told = kind if unit == "1" else f"{kind}, {unit}"
        attributes = ", ".join(item.attributes) or "none"
        lines.append(f"| {item.name} | `{item.prometheus}` | {told} | {attributes} | {item.description} |")
    used = {name for item in instruments for name in item.attributes}
    if used:
        lines += ["", "| Attribute | Label | Values |", "|---|---|---|"]
        lines += [
            f"| {item.name} | `{item.prometheus}` | {item.description} |"
            for item in metrics.ATTRIBUTES
            if item.name in used
        ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Writes, or checks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    text = PAGE.read_text()
    if parser.parse_args().check:
        return int(page(text) != text)
    PAGE.write_text(page(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
