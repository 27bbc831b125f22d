"""Writes a benchmark's result and its plot.

Knows files and axes; measures nothing.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot
from matplotlib.figure import Figure

RESULTS = Path(__file__).resolve().parent / "results"
Row = Mapping[str, Any]


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    cores = Path("/proc/cpuinfo").read_text().count("processor\t:")
    return {
        "cpu": cpu,
        "cores": cores,
        "kernel": platform.release(),
        "time": datetime.now(UTC).isoformat("T", "seconds"),
    }


def write_result(name: str, rows: Sequence[Row], **more: Any) -> Path:
    """Writes results/NAME.json and returns its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"bench": name, "machine": machine(), **more, "rows": list(rows)}, indent=2) + "\n")
    return path


def plot(name: str, rows: Sequence[Row], x: str, panels: Mapping[str, str]) -> Path:
    """One panel for each column of `panels` (column to axis label), one line for each model."""
    figure, axes = pyplot.subplots(1, len(panels), figsize=(5 * len(panels), 3.6), layout="constrained")
    for axis, (column, label) in zip(axes, panels.items(), strict=True):
        for model in sorted({row["model"] for row in rows}):
            points = [(row[x], row[column]) for row in rows if row["model"] == model]
            axis.plot(*zip(*points, strict=True), marker="o", label=model)
        axis.set(xlabel=x, ylabel=label, xscale="log")
        axis.set_xticks(sorted({row[x] for row in rows}), [str(value) for value in sorted({row[x] for row in rows})])
        axis.set_ylim(bottom=0)
        axis.legend(frameon=False)
    return _save(figure, name)


def plot_lines(
    name: str,
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
    x_label: str,
    y_label: str,
    *,
    log: bool = True,
) -> Path:
    """One panel for each name of `panels`, with a line through the points of each of its names.

    `log`: few values of x, each twice the last or so, each with a tick of its own.
    """
    figure, axes = pyplot.subplots(1, len(panels), figsize=(5.5 * len(panels), 4), layout="constrained", squeeze=False)
    for axis, (title, lines) in zip(axes[0], panels.items(), strict=True):
        for label, points in lines.items():
            axis.plot(*zip(*sorted(points), strict=True), marker="o" if log else "", label=label)
        axis.set(title=title, xlabel=x_label, ylabel=y_label)
        if log:
            ticks = sorted({x for points in lines.values() for x, _ in points})
            axis.set_xscale("log")
            axis.set_xticks(ticks, [f"{value:g}" for value in ticks])
            axis.minorticks_off()
        axis.set_ylim(bottom=0)
        axis.legend(frameon=False)
    return _save(figure, name)


def _save(figure: Figure, name: str) -> Path:
    path = RESULTS / f"{name}.png"
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path
