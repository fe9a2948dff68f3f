"""The figures of one run of the benchmark as a picture: a panel for each part that was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.axes import Axes

    from benchmarks.findings import Row
    from benchmarks.report import Report

__all__ = ["draw"]

COLOURS = {"a": "#1f6feb", "b": "#b08800", "c": "#6e7781"}
INK, GRID = "#1f2328", "#d0d7de"
SETTINGS: Any = {  # matplotlib knows a type of its own for each name
    "font.size": 9,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "svg.hashsalt": "payday",
}


def draw(report: Report, file: Path) -> None:
    """Write the picture; the ending of the file's name chooses the format. Without figures there is none."""
    rows = {row.name: row for row in report.rows}
    panels: list[Callable[[Axes], None]] = []
    if "a_to_b" in rows:
        panels.append(lambda axes: _throughput(axes, rows))
    if "a_median" in rows:
        panels.append(lambda axes: _latency(axes, rows))
    if "clean" in rows:
        panels.append(lambda axes: _failing(axes, rows))
    if report.samples:
        panels.append(lambda axes: _memory(axes, report.samples))
    if "servers_a" in rows:
        panels.append(lambda axes: _servers(axes, rows))
    if not panels:
        return
    with plt.rc_context(SETTINGS):
        columns = min(2, len(panels))
        lines = -(-len(panels) // columns)
        figure, grid = plt.subplots(
            lines, columns, figsize=(4.6 * columns, 2.9 * lines), squeeze=False, layout="constrained"
        )
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for panel, axes in zip(panels, grid.flat, strict=False):
            panel(axes)
        file.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"Date": None} if file.suffix == ".svg" else None
        figure.savefig(file, dpi=150, facecolor="white", metadata=metadata)
        plt.close(figure)


def _bars(axes: Axes, labels: list[str], rows: list[Row], colours: list[str], pattern: str) -> None:
    """Medians as bars, lowest and highest run as a line over each."""
    medians = [row.median for row in rows]
    errors = ([row.median - row.low for row in rows], [row.high - row.median for row in rows])
    axes.bar(labels, medians, color=colours, width=0.6)
    axes.errorbar(labels, medians, yerr=errors, fmt="none", ecolor=INK, elinewidth=1, capsize=3)
    top = max(row.high for row in rows)
    for place, row in enumerate(rows):
        axes.text(place, row.high + 0.03 * top, pattern.format(row.median), ha="center", va="bottom")
    axes.set_ylim(0, 1.18 * top)
    axes.tick_params(length=0)
    axes.yaxis.set_visible(False)
    axes.spines["left"].set_visible(False)


def _throughput(axes: Axes, rows: dict[str, Row]) -> None:
    axes.set_title("Throughput, records a second")
    labels = ["(a) Payday", "(b) by hand", "(c) bare loop"]
    _bars(axes, labels, [rows[letter] for letter in "abc"], [COLOURS[letter] for letter in "abc"], "{:,.0f}")


def _latency(axes: Axes, rows: dict[str, Row]) -> None:
    axes.set_title("Command to event, ms")
    words = ("median", "p95", "p99")
    labels = [f"{prefix}\n{word}" for prefix in ("(a)", "floor") for word in words]
    chosen = [rows[f"{name}_{word}"] for name in ("a", "floor") for word in words]
    _bars(axes, labels, chosen, [COLOURS["a"]] * 3 + [COLOURS["c"]] * 3, "{:.1f}")


def _failing(axes: Axes, rows: dict[str, Row]) -> None:
    axes.set_title("Good records a second while others fail")
    chosen = [rows["clean"], rows["failing_1"], rows["failing_10"]]
    _bars(axes, ["none", "1 %", "10 %"], chosen, [COLOURS["a"]] * 3, "{:,.0f}")


def _servers(axes: Axes, rows: dict[str, Row]) -> None:
    axes.set_title("On Kafka and PostgreSQL, records a second")
    labels = ["(a) Payday", "(a2) two\ninstances", "(b) by hand", "(c) bare loop"]
    chosen = [rows[f"servers_{name}"] for name in ("a", "a2", "b", "c")]
    _bars(axes, labels, chosen, [COLOURS["a"], COLOURS["a"], COLOURS["b"], COLOURS["c"]], "{:,.0f}")


def _memory(axes: Axes, samples: list[tuple[int, float]]) -> None:
    axes.set_title("Resident memory of (a), MB")
    axes.plot([records / 1000 for records, _ in samples], [mb for _, mb in samples], color=COLOURS["a"], marker=".")
    axes.set_ylim(0, 1.25 * max(mb for _, mb in samples))
    axes.set_xlabel("thousand records consumed")
    axes.grid(axis="y", color=GRID, linewidth=0.6)
