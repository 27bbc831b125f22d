"""Writes the chart's dashboards and alerts, and the page of alerts. `--check`: says whether they are so."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import yaml

from alerts import page, rules
from dashboards import DASHBOARDS, to_json

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts/openmodel"


def files() -> dict[Path, str]:
    """What there should be."""
    written = {
        CHART / f"dashboards/{dashboard.name}.json": json.dumps(to_json(dashboard), indent=2) + "\n"
        for dashboard in DASHBOARDS
    }
    written[CHART / "alerts.yaml"] = yaml.safe_dump(rules(), sort_keys=False, width=120)
    written[ROOT / "docs/reference/alerts.md"] = page()
    return written


def main() -> int:
    """Writes, or checks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check, wrong = parser.parse_args().check, 0
    for path, text in files().items():
        if check:
            wrong += not path.exists() or path.read_text() != text
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
