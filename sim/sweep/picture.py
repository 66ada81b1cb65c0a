"""One picture of a sweep: its main measures against the swept values."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from sim.effective import inline
from sim.report.columns import Floats
from sim.report.style import INK, Chart, Panel, png, run_colour, run_dash, run_marker, style
from sim.report.words import short
from sim.sweep.table import Table

_LOG_FROM = 20.0
"""Largest over smallest value from which they stand on a logarithmic axis."""
_NAMED = 24
"""Lines that still differ in colour or dash."""
_TITLES = {
    "val_fairness_mean": "fairness on validation data",
    "fairness_mean": "fairness",
    "regret_mean": "regret per round",
}


class Series(NamedTuple):
    """One line. x [N]: places of the first key's values; y [N, S]: one number per seed, NaN where unknown."""

    label: str
    x: Floats
    y: Floats


def draw(table: Table, title: str, path: Path) -> bool:
    """Write the picture; False, and no file, where nothing is swept but seeds, or no run has a number to draw."""
    fairness = "val_fairness_mean" if table.has("val_fairness_mean") else "fairness_mean"
    measures = [name for name in (fairness, "regret_mean") if table.has(name)]
    if not (measures and table.axes):
        return False
    with style():
        panels = tuple(_panel(table, measure) for measure in measures)
        png(Chart(path.stem, title, "", panels), path)
    return True


def _panel(table: Table, measure: str) -> Panel:
    first, lines = table.axes[0], series(table, measure)
    joined = _numbers(first.values)

    def fill(axes: Axes) -> None:
        for index, line in enumerate(lines):
            _line(axes, line if joined else _beside(line, index, len(lines)), index, joined=joined)
        _scale_x(axes, first.values)
        axes.set_xlabel(first.key, loc="right", labelpad=2)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        if 1 < len(lines) <= _NAMED:
            axes.legend(frameon=False, fontsize=6, labelcolor="linecolor", ncols=1 + len(lines) // 7)

    return Panel(_TITLES[measure], fill)


def series(table: Table, measure: str) -> list[Series]:
    """A line for each combination of what is swept beside the first key."""
    first = table.axes[0]
    places = first.values if _numbers(first.values) else range(len(first.values))
    order = np.argsort(np.array(places, np.float64), kind="stable")
    rest = list(dict.fromkeys(point.over[1:] for point in table.points))
    step = len(table.points) // len(first.values)
    return [
        Series(
            _label(others),
            np.array(places, np.float64)[order],
            _by_seed(table, [int(at) * step + index for at in order], measure),
        )
        for index, others in enumerate(rest)
    ]


def _label(others: Sequence[str]) -> str:
    return ", ".join(one.partition("=")[0].rpartition(".")[2] + "=" + one.partition("=")[2] for one in others)


def _by_seed(table: Table, points: Sequence[int], measure: str) -> Floats:
    """[N, S] of these points; NaN where a run failed."""
    seeds = len(table.rows) // len(table.points)
    found = np.full((len(points), seeds), np.nan)
    for place, point in enumerate(points):
        values = [row.measures[measure] for row in table.rows if row.point == point]
        found[place] = [np.nan if value is None else value for value in values]
    return found


def _numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _beside(line: Series, index: int, count: int) -> Series:
    """The dots of one line beside those of the others at the same word."""
    return line._replace(x=line.x + 0.5 * (index - (count - 1) / 2) / count)


def _line(axes: Axes, line: Series, index: int, *, joined: bool) -> None:
    """The mean over seeds with their range; points alone where the values are words."""
    here = np.isfinite(line.y).any(axis=1)
    x, y = line.x[here], line.y[here]
    if not len(x):
        return
    mean, low, high = np.nanmean(y, axis=1), np.nanmin(y, axis=1), np.nanmax(y, axis=1)
    colour, marker, label = run_colour(index), run_marker(index), short(line.label, 34)
    if joined:
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        dash = run_dash(index)
        axes.plot(x, mean, color=colour, linestyle=dash, linewidth=1.4, marker=marker, ms=3.6, label=label)
    else:
        axes.vlines(x, low, high, color=colour, linewidth=1.2, alpha=0.5)
        axes.plot(x, mean, color=colour, linestyle="", marker=marker, ms=4, label=label)


def _scale_x(axes: Axes, values: Sequence[Any]) -> None:
    if not _numbers(values):
        axes.set_xlim(-0.5, len(values) - 0.5)
        axes.set_xticks(
            range(len(values)), [short(inline(value), max(8, 60 // len(values))) for value in values], color=INK
        )
        return
    if min(values) > 0 and max(values) / min(values) >= _LOG_FROM:
        axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if len(values) <= 8:
        axes.xaxis.set_major_locator(FixedLocator([float(value) for value in values]))
