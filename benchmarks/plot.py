"""The plot of docs/benchmarks.md: CPU time per request, one panel for each workload."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.report import Cell, Run, figure_text, summarise
from benchmarks.servers import PROJECT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OURS: Final = "#2563a8"
_PEERS: Final = "#a9b2bd"
_FLOOR: Final = "#d5dae0"
_COLUMNS: Final = 2


def draw(run: Run, path: Path) -> None:
    """Write `path`.svg and `path`.png: horizontal bars from zero, the cheapest server on top."""
    cells = summarise(run.samples, run.base)
    rows = -(-len(run.workloads) // _COLUMNS)
    height = rows * (0.26 * len(run.servers) + 0.7) + 0.4
    figure = Figure(figsize=(11, height), layout="constrained")
    panels = list(figure.subplots(rows, _COLUMNS, squeeze=False).flat)
    for axes in panels:
        axes.set_axis_off()
    for axes, workload in zip(panels, run.workloads, strict=False):
        bars = {s: cells[s, workload] for s in run.servers if (s, workload) in cells}
        valid = {s: c for s, c in bars.items() if not c.problem and not c.unable}
        _panel(axes, run.titles[workload], valid)
    figure.suptitle(f"CPU µs per request, less is better (× {run.base})", fontsize=13)
    # The salt makes ids, and so the file, the same for the same run; text stays text.
    with mpl.rc_context({"svg.hashsalt": "benchmarks", "svg.fonttype": "none"}):
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=110)


def _panel(axes: Axes, heading: str, cells: dict[str, Cell]) -> None:
    axes.set_title(heading, fontsize=11)
    if not cells:
        axes.text(0.5, 0.5, "no valid figures", ha="center", transform=axes.transAxes)
        return
    axes.set_axis_on()
    order = sorted(cells, key=lambda server: cells[server].cpu_us, reverse=True)
    values = [cells[server].cpu_us for server in order]
    bars = axes.barh(order, values, color=[_colour(server) for server in order], height=0.75)
    axes.bar_label(bars, [_label(cells[server]) for server in order], padding=3, fontsize=8)
    axes.set_xlim(0, max(values) * 1.3)  # room for the labels
    axes.margins(y=0.01)
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.tick_params(axis="x", bottom=False, labelbottom=False)  # each bar has its figure
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    for label in axes.get_yticklabels():
        if label.get_text().startswith(PROJECT):
            label.set_fontweight("bold")


def _label(cell: Cell) -> str:
    ratio = "" if cell.ratio is None else f"  ×{cell.ratio:.2f}"
    return figure_text(cell.cpu_us) + ratio


def _colour(server: str) -> str:
    if server == "floor":
        return _FLOOR
    return _OURS if server.startswith(PROJECT) else _PEERS
