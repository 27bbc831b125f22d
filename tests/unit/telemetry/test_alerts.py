"""Alerts and dashboards: as the table of metrics has it, and firing when they should, by promtool."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from alerts import ALERTS, Alert

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "charts/openmodel/alerts.yaml"


@pytest.fixture(scope="session")
def promtool() -> str:
    """Of Debian's package."""
    folder = subprocess.run([ROOT / "hack/prometheus/get"], check=True, capture_output=True, text=True).stdout.strip()
    return f"{folder}/promtool"


def test_dashboards_alerts_and_their_page_are_as_the_table_of_metrics_has_it() -> None:
    script = [sys.executable, str(ROOT / "hack/observability/write.py"), "--check"]
    assert subprocess.run(script, env={"PYTHONPATH": str(ROOT / "protos")}).returncode == 0


def promtool_test(alert: Alert, series: list[tuple[str, str]], fires: bool) -> dict[str, Any]:
    """A test of promtool's: whether an alert fires once it has held."""
    samples = [{"labels": "{}", "value": 1}] if fires else []
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert.name}", alertstate="firing"}})',
                "eval_time": f"{alert.minutes + 7}m",
                "exp_samples": samples,
            }
        ],
    }


def test_every_alert_fires_with_its_example_and_none_without(promtool: str, tmp_path: Path) -> None:
    leader = ("openmodel_operator_leader", "1x60")
    tests = [promtool_test(alert, list(alert.example), fires=True) for alert in ALERTS]
    tests += [promtool_test(alert, [leader], fires=False) for alert in ALERTS]
    path = tmp_path / "alerts_test.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run([promtool, "test", "rules", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
